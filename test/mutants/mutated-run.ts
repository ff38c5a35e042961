/**
 * Runs one test file with one source file changed, and ends at the first failure: that is all there is to know of a
 * mutant. Arguments: the test file, and the mutant as JSON or nothing.
 */
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { run } from 'node:test'
import { pathToFileURL } from 'node:url'
import { apply, type Mutant } from './operators.ts'

const [file = '', text] = process.argv.slice(2)
if (text !== undefined) {
  const mutant = JSON.parse(text) as Mutant
  const target = pathToFileURL(mutant.file).href
  registerHooks({
    load: (url, context, nextLoad) =>
      url === target
        ? { format: 'module', shortCircuit: true, source: apply(mutant, readFileSync(mutant.file, 'utf8')) }
        : nextLoad(url, context),
  })
}
run({ files: [file], isolation: 'none' })
  .on('test:fail', () => process.exit(1))
  .resume()
