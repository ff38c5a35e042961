import { plainJson } from '../plain-json.ts'
import type { Terminal } from './command.ts'

/** Clients may send control characters. None of them may reach a terminal. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern matches control characters on purpose
const CONTROLS = /[\u0000-\u001f\u007f-\u009f]/g
const CODES = { bold: 1, dim: 90, red: 31, green: 32, yellow: 33 } as const
const COLUMN_GAP = '  '

export type Colour = keyof typeof CODES

/** Colours a text, if the terminal wants colours. */
export type Paint = (colour: Colour, text: string) => string

export function paintFor({ colour }: Terminal): Paint {
  return (name, text) => (colour ? `\u001b[${CODES[name]}m${text}\u001b[0m` : text)
}

export function plain(text: string): string {
  return text.replace(CONTROLS, ' ')
}

export interface Column<Row> {
  readonly title: string
  readonly align?: 'right'
  readonly text: (row: Row) => string
  readonly colour?: (row: Row) => Colour | undefined
}

/** A line of titles, then the rows. Each column is as wide as its widest cell. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], paint: Paint): string {
  const cells = rows.map((row) => columns.map(({ text }) => plain(text(row))))
  const widths = columns.map(({ title }, at) =>
    cells.reduce((width, row) => Math.max(width, row[at]?.length ?? 0), title.length),
  )
  const padded = (text: string, at: number): string =>
    columns[at]?.align === 'right' ? text.padStart(widths[at] ?? 0) : text.padEnd(widths[at] ?? 0)
  const line = (texts: readonly string[]): string => texts.join(COLUMN_GAP).trimEnd()
  const head = paint('dim', line(columns.map(({ title }, at) => padded(title, at))))
  const body = rows.map((row, index) =>
    line(
      columns.map(({ colour }, at) => {
        const text = padded(cells[index]?.[at] ?? '', at)
        const name = colour?.(row)
        return name === undefined ? text : paint(name, text)
      }),
    ),
  )
  return [head, ...body].map((text) => `${text}\n`).join('')
}

/** A duration in one unit: `9 s`, `3 min`, `2 h`, `4 d`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 120) return `${whole} s`
  if (whole < 7200) return `${Math.round(whole / 60)} min`
  return whole < 172_800 ? `${Math.round(whole / 3600)} h` : `${Math.round(whole / 86_400)} d`
}

export function json(value: unknown): string {
  return `${plainJson(value, 2)}\n`
}
