/** One fence, and how it is taken down. */
export interface Fence {
  /** What comes through without it. */
  readonly attack: string
  /** Relative to the project's root. */
  readonly file: string
  /** Stands in the file exactly once. */
  readonly text: string
  /** In its place. */
  readonly without: string
  /** The test file that attacks it, and the titles of its tests that do. */
  readonly test: string
  readonly titles: RegExp
}
