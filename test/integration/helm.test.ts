import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { parse } from 'yaml'
import { CHART_SCHEMA_FILE, chartSchemaText } from '../../scripts/chart-schema.ts'
import { parseConfig } from '../../src/config/load.ts'
import {
  helm,
  type Manifest,
  noHelm,
  noKustomize,
  noValidator,
  parseManifests,
  renderManifests,
  validateManifests,
} from '../support/kubernetes.ts'

/** deploy/helm/zonegate as Helm renders it, beside what kustomize makes of deploy/kubernetes. */
const CHART = 'deploy/helm/zonegate'
const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

/** What the kustomization has in place of the two values without a default. */
const PLACEHOLDERS = [
  ...['--set', 'image.repository=set-the-image.invalid/zonegate,image.tag=set-the-tag'],
  ...['--set', 'config.dns.search=set-dns-search.invalid'],
]
const GIVEN = ['--set', 'image.repository=registry.example/zonegate,config.dns.search=prod.example']

let folder: string
let values: number

function render(args: readonly string[], chart = CHART, release = 'zonegate'): string {
  const { code, stdout, stderr } = helm('template', release, chart, '--namespace', 'zonegate', ...args)
  assert.equal(code, 0, stderr)
  return stdout
}

/** A file of values, for `--values`. */
function valuesFile(content: object): string {
  values += 1
  const file = join(folder, `values-${values}.yaml`)
  writeFileSync(file, JSON.stringify(content))
  return file
}

function one(manifests: readonly Manifest[], kind: string, name = ''): Manifest {
  const found = manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name.endsWith(name))
  assert.ok(found, `${kind} ${name}`)
  return found
}

const LABELS_OF_HELM = new Set([
  'app.kubernetes.io/instance',
  'app.kubernetes.io/managed-by',
  'app.kubernetes.io/version',
  'helm.sh/chart',
])

/** Manifests by kind and name, without what only one of the two ways has. */
function comparable(manifests: readonly Manifest[]): Record<string, Manifest> {
  const plain = (value: Manifest, key = ''): Manifest => {
    if (Array.isArray(value)) return value.map((item) => plain(item))
    if (typeof value !== 'object' || value === null)
      // kustomize has the content's hash in a name, and the chart has the release's name.
      return key === 'name'
        ? String(value).replace(/^(?:zonegate-)?((?:envoy|run)-\w+?)(?:-\w{10})?$/, '$1')
        : value
    const entries = Object.entries<Manifest>(value).filter(([name]) => !LABELS_OF_HELM.has(name))
    return Object.fromEntries(
      entries
        .filter(([name]) => name !== 'checksum/bootstrap')
        .map(([name, item]) => [name, name === 'zonegate.yaml' ? parse(item) : plain(item, name)]),
    )
  }
  // The namespace is the operator's: `helm install --create-namespace`.
  return Object.fromEntries(
    manifests
      .filter((manifest) => manifest.kind !== 'Namespace')
      .map((manifest) => plain(manifest))
      .map((manifest) => [`${manifest.kind} ${manifest.metadata.name}`, manifest]),
  )
}

/** Paths of the Secret for zones behind TLS, as docs/recipes/upstream.md has them. */
const CLIENT_CERTIFICATE = {
  ca: 'certs/zones-ca.pem',
  cert: 'certs/gateway.pem',
  key: 'certs/gateway.key',
}

/** Every part that is off by default is on. */
const EVERYTHING = {
  image: { repository: 'registry.example/zonegate', tag: '1', pullPolicy: 'Always' },
  config: {
    dns: { search: 'prod.example' },
    history: { bytes: 33_554_432 },
    rules: [
      { name: 'b', match: { paths: ['/b'] }, port: 'srv' },
      {
        name: 'a',
        header: 'x-a',
        port: 9000,
        services: {
          mail: { paths: ['/mail'], port: 9001 },
          pay: { paths: ['/pay'], port: 8443, upstream: { tls: CLIENT_CERTIFICATE, http: 2 } },
          default: {},
        },
      },
    ],
    fallback: { enabled: true },
    tracing: { otlp: 'http://collector.monitoring:4317', samplePercent: 10 },
  },
  token: { existingSecret: 'my-token' },
  tls: { listenerSecret: 'my-listener', upstreamSecret: 'my-upstream' },
  processor: { env: { ZONEGATE_LOG: 'debug' }, resources: { requests: { cpu: '2' } } },
  envoy: { concurrency: 4, files: { 'routes.yaml': 'my routes' } },
  service: { type: 'LoadBalancer', port: 443, appProtocol: 'https', annotations: { a: 'b' } },
  autoscaling: { enabled: false },
  replicas: 5,
  networkPolicy: {
    callers: [{ ipBlock: { cidr: '192.0.2.0/24' } }],
    zonePorts: [8443],
    egress: [{ ports: [{ protocol: 'TCP', port: 514 }] }],
  },
  serviceMonitor: { enabled: true, interval: '30s', labels: { release: 'prometheus' } },
  podLabels: { team: 'x' },
  podAnnotations: { note: 'y' },
  pod: { nodeSelector: { disk: 'fast' }, dnsConfig: { options: [{ name: 'ndots', value: '1' }] } },
}

suite('the Helm chart', { skip: noHelm() }, () => {
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'zonegate-helm-'))
    values = 0
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  test('with default values it is the kustomization', { skip: noKustomize() }, () => {
    const chart = comparable(parseManifests(render(PLACEHOLDERS)))
    const kustomization = comparable(parseManifests(renderManifests()))
    assert.deepEqual(Object.keys(chart).sort(), Object.keys(kustomization).sort())
    for (const [name, manifest] of Object.entries(kustomization))
      assert.deepEqual(chart[name], manifest, name)
  })

  test('helm lint --strict has nothing against it', () => {
    for (const given of [GIVEN, ['--values', valuesFile(EVERYTHING)]]) {
      const { code, stdout, stderr } = helm('lint', '--strict', CHART, ...given)
      assert.equal(code, 0, stdout + stderr)
      assert.doesNotMatch(stdout + stderr, /WARN|ERROR/)
    }
  })

  for (const version of ['1.29', '1.33', '1.37'])
    test(`no field is unknown or wrong to Kubernetes ${version}`, { skip: noValidator() }, () => {
      const everything = render(['--values', valuesFile(EVERYTHING)])
      // Kubernetes has no schema of the Prometheus Operator's kinds.
      const own = everything.split(/^---$/m).filter((text) => !text.includes('kind: ServiceMonitor'))
      assert.equal(own.length + 1, everything.split(/^---$/m).length)
      for (const [name, text] of Object.entries({ defaults: render(GIVEN), everything: own.join('---') })) {
        const file = join(folder, `${name}-${version}.yaml`)
        writeFileSync(file, text)
        assert.equal(validateManifests(file, version), '', name)
      }
    })

  test('a packed chart has no links, and renders the same', () => {
    const packed = helm('package', CHART, '--destination', folder)
    assert.equal(packed.code, 0, packed.stderr)
    const archive = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '')
    const { stdout, stderr } = helm('template', 'zonegate', archive, '--namespace', 'zonegate', ...GIVEN)
    assert.equal(stdout, render(GIVEN))
    assert.equal(stderr, '')
  })

  test('values.schema.json is current', () => {
    const write = 'node scripts/with-node.mjs scripts/chart-schema.ts'
    assert.equal(readFileSync(CHART_SCHEMA_FILE, 'utf8'), chartSchemaText(), `${write} makes it anew`)
  })

  test('the schema has every value of values.yaml', () => {
    const { properties, required } = JSON.parse(read(`${CHART}/values.schema.json`))
    const defaults = parse(read(`${CHART}/values.yaml`))
    assert.deepEqual(Object.keys(properties).sort(), ['global', ...Object.keys(defaults)].sort())
    for (const [name, value] of Object.entries<Manifest>(defaults))
      if (properties[name].additionalProperties === false && name !== 'config')
        for (const names of [Object.keys(properties[name].properties), properties[name].required])
          assert.deepEqual(names.toSorted(), Object.keys(value).sort(), name)
    assert.deepEqual(required.toSorted(), Object.keys(defaults).sort())
  })

  const REFUSED: [what: string, args: string[], error: RegExp][] = [
    ['no image', ['--set', 'config.dns.search=a.example'], /image\.repository: set the image/],
    [
      'no search domain',
      ['--set', 'image.repository=x'],
      /config\.dns\.search: set your zones' search domain/,
    ],
    [
      'a value that there is not',
      [...GIVEN, '--set', 'replicaCount=3'],
      /additional properties 'replicaCount'/,
    ],
    [
      'a wrong key of zonegate.yaml',
      [...GIVEN, '--set', 'config.dns.serch=x'],
      /'\/config\/dns'.*'serch' not/,
    ],
    ['a wrong value in it', [...GIVEN, '--set', 'config.rules.port=99999'], /got 99,999, want 65,535/],
    ['a port that is a name', [...GIVEN, '--set', 'service.port=http'], /'\/service\/port': got string/],
    [
      'a file that Envoy has not',
      [...GIVEN, '--set', 'envoy.files.route\\.yaml=x'],
      /'route\.yaml' not allowed/,
    ],
    ['nobody who may call', [...GIVEN, '--set-json', 'networkPolicy.callers=[]'], /callers': minItems/],
    ['no networks of zones', [...GIVEN, '--set', 'networkPolicy.zones=null'], /missing property 'zones'/],
    [
      'a value that null removes',
      [...GIVEN, '--set', 'envoy.image=null'],
      /'\/envoy': missing property 'image'/,
    ],
    ['a part that null removes', [...GIVEN, '--set', 'autoscaling=null'], /missing property 'autoscaling'/],
    [
      'a key of zonegate.yaml that the pod sets',
      [...GIVEN, '--set', 'config.listen.httpToken=0123456789abcdef'],
      /'\/config\/listen'.*'httpToken' not allowed/,
    ],
    ['a variable that the pod sets', [...GIVEN, '--set', 'processor.env.ZONEGATE_HTTP=x'], /ZONEGATE_HTTP/],
    [
      'a name that no Service has',
      [...GIVEN, '--set', 'fullnameOverride=1st'],
      /fullnameOverride: "1st" can't be/,
    ],
    ['a list of the pod', [...GIVEN, '--set-json', 'pod.containers=[]'], /'\/pod\/containers'/],
  ]
  for (const [what, args, error] of REFUSED)
    test(`${what}: refused, and the error names it`, () => {
      const { code, stdout, stderr } = helm('template', 'zonegate', CHART, ...args)
      assert.match(stderr, error)
      assert.deepEqual([code, stdout], [1, ''])
    })

  test('values are in the manifests', () => {
    const manifests = parseManifests(render(['--values', valuesFile(EVERYTHING)], CHART, 'edge'))
    const { metadata, spec } = one(manifests, 'Deployment').spec.template
    const [processor, envoy] = [spec.initContainers[0], spec.containers[0]]
    assert.equal(one(manifests, 'Deployment').metadata.name, 'edge-zonegate')
    assert.equal(one(manifests, 'Deployment').spec.replicas, 5)
    assert.equal(processor.image, 'registry.example/zonegate:1')
    assert.deepEqual(processor.env.at(-1), { name: 'ZONEGATE_LOG', value: 'debug' })
    assert.equal(processor.resources.requests.cpu, '2')
    assert.equal(envoy.args[envoy.args.indexOf('--concurrency') + 1], '4')
    assert.deepEqual([metadata.labels.team, metadata.annotations.note], ['x', 'y'])
    assert.deepEqual(spec.nodeSelector, { disk: 'fast' })
    assert.equal(spec.securityContext.runAsNonRoot, true)
    const secrets = ['my-token', 'my-listener', 'my-upstream']
    for (const name of secrets) assert.match(JSON.stringify(spec.volumes), new RegExp(`"${name}"`))
    const { type, ports } = one(manifests, 'Service', 'edge-zonegate').spec
    assert.deepEqual([type, ports[0].port, ports[0].appProtocol], ['LoadBalancer', 443, 'https'])
    assert.equal(
      manifests.find(({ kind }) => kind === 'HorizontalPodAutoscaler'),
      undefined,
    )
    assert.equal(one(manifests, 'ConfigMap', 'envoy-routes').data['routes.yaml'], 'my routes')
  })

  test('the ConfigMaps, the Service and the disruption budget are those of this release', () => {
    const manifests = parseManifests(render(GIVEN, CHART, 'edge'))
    const { metadata, spec } = one(manifests, 'Deployment').spec.template
    const used = spec.volumes.flatMap((volume: Manifest) => [volume, ...(volume.projected?.sources ?? [])])
    const mounted = used.map(({ configMap }: Manifest) => configMap?.name).filter(Boolean)
    const made = manifests.filter(({ kind }) => kind === 'ConfigMap').map((map) => map.metadata.name)
    assert.deepEqual(mounted.sort(), made.sort())
    for (const selector of [
      one(manifests, 'Service').spec.selector,
      one(manifests, 'Deployment').spec.selector.matchLabels,
      one(manifests, 'PodDisruptionBudget').spec.selector.matchLabels,
      one(manifests, 'NetworkPolicy').spec.podSelector.matchLabels,
    ]) {
      assert.equal(selector['app.kubernetes.io/instance'], 'edge')
      for (const [label, value] of Object.entries(selector)) assert.equal(metadata.labels[label], value)
    }
    assert.equal(one(manifests, 'HorizontalPodAutoscaler').spec.scaleTargetRef.name, 'edge-zonegate')
    assert.equal(one(manifests, 'ServiceAccount').metadata.name, spec.serviceAccountName)
  })

  test('the values of docs/kubernetes.md are taken', () => {
    const [, text = ''] = /```yaml\n(# my-values\.yaml\n.*?)```/s.exec(read('docs/kubernetes.md')) ?? []
    const file = join(folder, 'my-values.yaml')
    writeFileSync(file, text)
    const { data } = one(parseManifests(render(['--values', file])), 'ConfigMap', 'config')
    assert.equal(parseConfig(data['zonegate.yaml'], 'zonegate.yaml').dns.search, 'prod.example')
  })

  test('the configuration is one that the processor takes', () => {
    const manifests = parseManifests(render(['--values', valuesFile(EVERYTHING)]))
    const text = one(manifests, 'ConfigMap', 'config').data['zonegate.yaml']
    assert.equal(parseConfig(text, 'zonegate.yaml').history.bytes, 33_554_432)
  })

  test('the network policy lets pods reach the ports that the configuration names, and no others', () => {
    const portsOf = (content: object): unknown[][] => {
      const policy = one(parseManifests(render([...GIVEN, '--values', valuesFile(content)])), 'NetworkPolicy')
      return policy.spec.egress.map(({ ports }: Manifest) =>
        ports.map(({ port, endPort }: Manifest) => (endPort === undefined ? port : [port, endPort])),
      )
    }
    const zonePorts = (config: object, more: number[] = []): unknown =>
      portsOf({ config, networkPolicy: { zonePorts: more } })[1]
    assert.deepEqual(portsOf({}), [[53, 53], [8101]])
    assert.deepEqual(zonePorts({ rules: { port: 9000 } }), [9000])
    // An empty list of ports would admit every port.
    assert.deepEqual(zonePorts({ rules: { port: 'srv' } }), [[1024, 65_535]])
    const srv = { port: { srv: '_{service}._tcp.{name}' } }
    assert.deepEqual(
      zonePorts({ rules: { services: { mail: srv } }, addresses: { ports: [80, '8000-8999'] } }),
      [8101, 80, [8000, 8999]],
    )
    assert.deepEqual(zonePorts(EVERYTHING.config, [8444]), [[1024, 65_535], 9000, 9001, 8443, 8444])
    assert.deepEqual(
      zonePorts({ zones: { 7: { addresses: ['10.0.0.7:9000', '[fd00::7]:9001', '10.0.0.8', 'fd00::8'] } } }),
      [8101, 9000, 9001],
    )
    const nameservers = ['10.0.0.2:53', '10.0.0.2:5353', '[fd00::2]:5353']
    assert.deepEqual(portsOf({ config: { dns: { nameservers } } })[0], [53, 53, 5353, 5353])
    for (const [collector, ports] of [
      ['http://collector.monitoring:4317', [[4317]]],
      ['http://10.0.0.3:4318/', [[4318]]],
      ['http://[fd00::3]:4317', [[4317]]],
      // No policy applies to the pod's loopback.
      ['http://127.0.0.1:4317', []],
      ['http://localhost:4317', []],
      ['http://[::1]:4317', []],
    ] as const)
      assert.deepEqual(portsOf({ config: { tracing: { otlp: collector } } }).slice(2), ports, collector)
    assert.deepEqual(portsOf(EVERYTHING).slice(2), [[4317], [514]])
  })

  test('nameservers may be asked by Envoy too, because a policy applies to all containers of a pod', () => {
    const manifests = parseManifests(render(['--values', valuesFile(EVERYTHING)]))
    const { podSelector, egress } = one(manifests, 'NetworkPolicy').spec
    const { metadata, spec } = one(manifests, 'Deployment').spec.template
    for (const [label, value] of Object.entries(podSelector.matchLabels))
      assert.equal(metadata.labels[label], value)
    assert.deepEqual(
      [...spec.initContainers, ...spec.containers].map(({ name }: Manifest) => name),
      ['processor', 'envoy'],
    )
    assert.equal(egress[0].to, undefined) // any nameserver: Envoy's are those of the processor
    assert.deepEqual(
      egress[0].ports.map(({ protocol, port }: Manifest) => `${protocol} ${port}`),
      ['UDP 53', 'TCP 53'],
    )
    assert.notEqual(spec.hostNetwork, true)
  })

  test('keys and tokens are in Secrets, mounted for those who need them', () => {
    const manifests = parseManifests(render(['--values', valuesFile(EVERYTHING)]))
    const { spec } = one(manifests, 'Deployment').spec.template
    const [processor, envoy] = [spec.initContainers[0], spec.containers[0]]
    const volumeAt = (container: Manifest, path: string): Manifest => {
      const mount = container.volumeMounts.find(({ mountPath }: Manifest) => path.startsWith(`${mountPath}/`))
      assert.equal(mount?.readOnly, true, path)
      return spec.volumes.find(({ name }: Manifest) => name === mount.name)
    }
    for (const path of Object.values(CLIENT_CERTIFICATE)) {
      const { projected } = volumeAt(envoy, join(envoy.workingDir, path))
      assert.deepEqual(
        projected.sources.map(({ secret }: Manifest) => secret?.name),
        ['my-listener', 'my-upstream'],
      )
      assert.equal(projected.defaultMode, 0o440)
    }
    const token = processor.env.find(({ name }: Manifest) => name === 'ZONEGATE_HTTP_TOKEN_FILE').value
    assert.equal(volumeAt(processor, token).secret.secretName, 'my-token')
    assert.equal(volumeAt(processor, token).secret.defaultMode, 0o440)
    const mounted = ({ volumeMounts }: Manifest): string[] => volumeMounts.map(({ name }: Manifest) => name)
    assert.ok(!mounted(processor).includes('certs') && !mounted(envoy).includes('token'))
    assert.equal(
      manifests.find(({ kind }) => kind === 'Secret'),
      undefined,
    )
  })

  test('a change of what is read at the start replaces the pods; a change of what is live does not', () => {
    const checksum = (files: Record<string, string>): string => {
      const manifests = parseManifests(render([...GIVEN, '--values', valuesFile({ envoy: { files } })]))
      return one(manifests, 'Deployment').spec.template.metadata.annotations['checksum/bootstrap']
    }
    assert.equal(checksum({ 'routes.yaml': 'x', 'listener.yaml': 'x', 'clusters.yaml': 'x' }), checksum({}))
    for (const file of [
      'envoy.yaml',
      'id_in_body.lua',
      'refusal-log-rate.yaml',
      'listener-tls-certificate.yaml',
    ])
      assert.notEqual(checksum({ [file]: 'x' }), checksum({}), file)
  })

  test('Prometheus scrapes what prometheus.yml has it scrape, as jobs of the same names', () => {
    const manifests = parseManifests(render(['--values', valuesFile(EVERYTHING)]))
    const { endpoints, selector } = one(manifests, 'ServiceMonitor').spec
    const service = one(manifests, 'Service', 'metrics')
    for (const [label, value] of Object.entries(selector.matchLabels))
      assert.equal(service.metadata.labels[label], value)
    const { spec } = one(manifests, 'Deployment').spec.template
    const ports = [...spec.initContainers, ...spec.containers].flatMap((container) => container.ports)
    for (const { name, port } of service.spec.ports)
      assert.equal(ports.find((of: Manifest) => of.name === name).containerPort, port)
    assert.deepEqual(
      endpoints.map(({ port }: Manifest) => port),
      service.spec.ports.map(({ name }: Manifest) => name),
    )
    const jobs = parse(read('deploy/prometheus/prometheus.yml')).scrape_configs
    assert.deepEqual(
      endpoints.map(({ path, params, relabelings }: Manifest) => [relabelings[0].replacement, path, params]),
      jobs.map(({ job_name, metrics_path, params }: Manifest) => [job_name, metrics_path, params]),
    )
  })
})
