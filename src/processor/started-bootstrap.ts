/** Envoy's bootstrap as it was when Envoy started: Envoy reads it then, and not again. */
export class StartedBootstrap {
  readonly #now: () => string
  readonly #onWaiting: () => void
  #fault: string | undefined
  #started: string | undefined
  #saved: string | undefined

  /**
   * What is saved now is taken for that of the Envoys that run: nothing better is known.
   * @param now what Envoy would read, were it started now. @throws where the file can't be read, or rendered
   * @param onWaiting it has changed, and takes effect at Envoy's next start
   */
  constructor(now: () => string, onWaiting: () => void) {
    this.#now = now
    this.#onWaiting = onWaiting
  }

  /** True where what is saved takes effect at Envoy's next start. */
  get needsRestart(): boolean {
    return this.#saved !== this.#started
  }

  /** Why what is saved can't be rendered. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** An Envoy has read it as it is now. */
  envoyStarted(): void {
    this.#saved = this.#read()
    this.#started = this.#saved
  }

  /** The file may have been saved. One that is missing for a moment hasn't changed. */
  look(): void {
    const saved = this.#read()
    if (saved === this.#saved) return
    this.#saved = saved
    this.#started ??= saved
    if (this.needsRestart) this.#onWaiting()
  }

  #read(): string | undefined {
    try {
      const text = this.#now()
      this.#fault = undefined
      return text
    } catch (error) {
      this.#fault = (error as Error).message
      return this.#saved
    }
  }
}
