import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { type ConfigError, parseConfig } from '../../src/config/load.ts'
import {
  type Manifest,
  noKustomize,
  noValidator,
  parseManifests,
  renderManifests,
  validateManifests,
} from '../support/kubernetes.ts'

/** deploy/kubernetes as kustomize renders it. test/e2e/kubernetes-pod.test.ts runs a pod of it. */
let text: string
let manifests: Manifest[]
const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

suite('the Kubernetes manifests', { skip: noKustomize() }, () => {
  before(() => {
    text = renderManifests()
    manifests = parseManifests(text)
  })
  const one = (kind: string, name = 'zonegate'): Manifest => {
    const found = manifests.find(({ kind: of, metadata }) => of === kind && metadata.name.startsWith(name))
    assert.ok(found, `${kind} ${name}`)
    return found
  }
  const pod = (): Manifest => one('Deployment').spec.template.spec
  const containers = (): Manifest[] => [...pod().initContainers, ...pod().containers]

  for (const version of ['1.29', '1.33', '1.37'])
    test(`no field is unknown or wrong to Kubernetes ${version}`, { skip: noValidator() }, () => {
      const folder = mkdtempSync(join(tmpdir(), 'zonegate-kubernetes-'))
      try {
        writeFileSync(join(folder, 'good.yaml'), text)
        assert.equal(validateManifests(join(folder, 'good.yaml'), version), '')
        writeFileSync(join(folder, 'bad.yaml'), text.replace('readinessProbe:', 'readynessProbe:'))
        assert.match(validateManifests(join(folder, 'bad.yaml'), version), /readynessProbe/)
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    })

  test('ConfigMaps are the files that npm start and compose use', () => {
    const data = Object.assign(
      {},
      ...manifests.filter(({ kind }) => kind === 'ConfigMap').map((map) => map.data),
    )
    for (const file of [
      'envoy.yaml',
      'listener.yaml',
      'id_in_body.lua',
      'routes.yaml',
      'clusters.yaml',
      'refusal-log-rate.yaml',
      'listener-tls-certificate.yaml',
    ])
      assert.equal(data[file], read(`envoy/${file}`))
    assert.equal(data['run-envoy.sh'], read('deploy/compose/run-envoy.sh'))
  })

  test('live ConfigMaps keep their names; those read at the start have a hash in the name, so a change replaces the pods', () => {
    const names = manifests.filter(({ kind }) => kind === 'ConfigMap').map(({ metadata }) => metadata.name)
    assert.match(
      names.sort().join(' '),
      /^envoy-bootstrap-\w{10} envoy-routes run-envoy-\w{10} zonegate-config$/,
    )
    const used = pod().volumes.flatMap((volume: Manifest) => [volume, ...(volume.projected?.sources ?? [])])
    const mounted = used.map(({ configMap }: Manifest) => configMap?.name).filter(Boolean)
    assert.deepEqual(mounted.sort(), names)
  })

  test('no volume uses subPath, which Kubernetes never updates', () => {
    for (const { volumeMounts } of containers())
      for (const mount of volumeMounts) assert.equal(mount.subPath, undefined)
  })

  test('the processor is a sidecar: Envoy starts after it and ends before it', () => {
    const [processor] = pod().initContainers
    assert.equal(processor.restartPolicy, 'Always')
    assert.equal(processor.startupProbe.httpGet.path, '/readyz')
  })

  test('each container meets the restricted Pod Security Standard and has a read-only image', () => {
    assert.equal(pod().securityContext.runAsNonRoot, true)
    assert.equal(pod().securityContext.seccompProfile.type, 'RuntimeDefault')
    assert.equal(pod().automountServiceAccountToken, false)
    assert.equal(one('ServiceAccount').automountServiceAccountToken, false)
    for (const { securityContext } of containers()) {
      assert.ok(securityContext.runAsUser > 0)
      assert.equal(securityContext.allowPrivilegeEscalation, false)
      assert.equal(securityContext.readOnlyRootFilesystem, true)
      assert.deepEqual(securityContext.capabilities, { drop: ['ALL'] })
    }
    assert.equal(one('Namespace').metadata.labels['pod-security.kubernetes.io/enforce'], 'restricted')
  })

  test('a pod has time for preStop, draining and the processor before it is killed', () => {
    const seconds = Number(/DRAIN_SECONDS_MAX=(\d+)/.exec(read('deploy/compose/run-envoy.sh'))?.[1])
    const preStop = Number(pod().containers[0].lifecycle.preStop.exec.command[1])
    assert.ok(pod().terminationGracePeriodSeconds >= preStop + seconds + 5 + 5)
  })

  test('image and search domain have placeholders: the image does not exist, and the processor refuses the search domain', () => {
    assert.match(pod().initContainers[0].image, /^set-the-image\.invalid\//)
    const text = one('ConfigMap', 'zonegate-config').data['zonegate.yaml']
    assert.throws(
      () => parseConfig(text, 'zonegate.yaml'),
      ({ faults }: ConfigError) => /dns\.search: expected your zones' search domain/.test(faults.join()),
    )
    assert.doesNotThrow(() =>
      parseConfig(text.replace(/search: \S+/, 'search: prod.example'), 'zonegate.yaml'),
    )
  })

  test('Envoy is the version that Zonegate is tested with', () => {
    const [, image] = /image: (envoyproxy\/envoy:\S+)/.exec(read('docker-compose.yml')) ?? []
    assert.equal(pod().containers[0].image, image)
  })

  test('the network policy admits labelled namespaces only, and blocks link-local addresses', () => {
    const { policyTypes, ingress, egress } = one('NetworkPolicy').spec
    assert.deepEqual([...policyTypes].sort(), ['Egress', 'Ingress'])
    for (const { from } of ingress)
      for (const { namespaceSelector } of from)
        assert.ok(Object.keys(namespaceSelector.matchLabels ?? {}).length > 0)
    for (const { to, ports } of egress) {
      if (to === undefined) assert.ok(ports.every(({ port }: Manifest) => port === 53))
      else
        for (const { ipBlock } of to)
          assert.ok(
            ipBlock.except?.includes(ipBlock.cidr === '::/0' ? 'fe80::/10' : '169.254.0.0/16'),
            ipBlock.cidr,
          )
    }
  })

  test('service, network policy and probes use ports that the containers have', () => {
    const ports = new Set(containers().flatMap(({ ports: of }) => of.map(({ name }: Manifest) => name)))
    const probes = containers().flatMap((of) => [of.startupProbe, of.livenessProbe, of.readinessProbe])
    const named = [
      ...one('Service').spec.ports.map(({ targetPort }: Manifest) => targetPort),
      ...one('NetworkPolicy').spec.ingress.flatMap(({ ports: of }: Manifest) =>
        of.map(({ port }: Manifest) => port),
      ),
      ...probes.filter(Boolean).map(({ httpGet, tcpSocket }) => (httpGet ?? tcpSocket).port),
    ]
    for (const name of named) assert.ok(ports.has(name), String(name))
    assert.equal(pod().containers[0].startupProbe.tcpSocket.port, 'callback')
  })
})
