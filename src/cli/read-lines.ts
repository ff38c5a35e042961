import { createReadStream } from 'node:fs'
import { UsageError } from './command.ts'

/** Characters of a line. The rest is dropped. Envoy truncates what clients send, so its own lines are far shorter. */
const LINE_LENGTH_MAX = 1024 * 1024

/**
 * The lines of a file, or of standard input if the file is `-`.
 * @throws UsageError if the file can't be read
 */
export async function* readLines(file: string, option: string): AsyncGenerator<string> {
  const input = file === '-' ? process.stdin : createReadStream(file)
  let begun = ''
  try {
    for await (const text of input.setEncoding('utf8') as AsyncIterable<string>) {
      const [first = '', ...others] = text.split('\n')
      begun = (begun + first).slice(0, LINE_LENGTH_MAX)
      for (const other of others) {
        yield begun
        begun = other
      }
    }
  } catch (error) {
    throw new UsageError(`${option}: can't read "${file}": ${(error as Error).message}`)
  }
  if (begun !== '') yield begun
}
