import { EventEmitter } from 'node:events'

/** The part of a gRPC server stream that the services of `src/xds` use. */
export class FakeCall extends EventEmitter {
  readonly written: unknown[] = []
  failed: { code: number; details: string } | undefined
  ended = false
  #paused = false

  constructor() {
    super()
    this.on('error', (error) => {
      this.failed = error
    })
  }

  write(message: unknown): void {
    this.written.push(message)
  }

  end(): void {
    this.ended = true
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
  }

  isPaused(): boolean {
    return this.#paused
  }
}
