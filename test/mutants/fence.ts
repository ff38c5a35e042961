/** One fence, and how to take it down. */
export interface Fence {
  /** The attack that comes through without the fence. */
  readonly attack: string
  /** Relative to the project's root. */
  readonly file: string
  /** The fence's text, which must occur exactly once in the file. */
  readonly text: string
  /** The text that replaces the fence. */
  readonly without: string
  /** The test file that attacks the fence, and the titles of the attacking tests. */
  readonly test: string
  readonly titles: RegExp
}
