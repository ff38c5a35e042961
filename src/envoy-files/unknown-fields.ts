import { fieldsOf } from '../xds/envoy-api.ts'
import type { Place, YamlFile } from '../xds/yaml-file.ts'

export const BOOTSTRAP = 'envoy.config.bootstrap.v3.Bootstrap'

/**
 * Fields that Envoy's API doesn't have, each as `file:line:column: field: what`. Envoy silently ignores them in files that it reads
 * while it runs, and does not start with one in its bootstrap.
 */
export function unknownFields(file: YamlFile, message: string, place: Place = file.root): string[] {
  const fields = fieldsOf(message)
  if (fields === undefined) return [] // not a message, or an extension of another Envoy
  return file.entries(place).flatMap(([key, at]) => {
    if (key === '@type') return []
    // proto3's JSON mapping takes a field's name in either case.
    const field = fields[key] ?? fields[key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)]
    if (field === undefined) return [file.line(at, "no field of Envoy's API")]
    const [, type, rule = ''] = field
    const values = rule.startsWith('map')
      ? file.entries(at).map(([, value]) => value)
      : rule === 'repeated'
        ? file.items(at)
        : [at]
    return values.flatMap((value) =>
      type === 'google.protobuf.Any' ? inAny(file, value) : unknownFields(file, type, value),
    )
  })
}

/** The same for the resources of a file that Envoy watches. */
export function unknownFieldsOfResources(file: YamlFile): string[] {
  return file.items(file.at(file.root, 'resources')).flatMap((resource) => inAny(file, resource))
}

function inAny(file: YamlFile, place: Place): string[] {
  return unknownFields(file, file.text(place, '@type')?.replace(/^.*\//, '') ?? '', place)
}
