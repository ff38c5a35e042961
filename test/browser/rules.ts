import { rulesOf } from '../../src/config/rules.ts'
import { configSchema } from '../../src/config/schema.ts'

export const DEFAULT_RULES = rulesOf(configSchema.parse({}))
