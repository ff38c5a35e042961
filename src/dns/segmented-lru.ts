/**
 * A bounded map in which entries in use survive a scan: segmented LRU (Karedla, Love, Wherry 1994). A new entry is on
 * probation; a second use makes it protected. Entries on probation are evicted first, so a scan of names that are used
 * once evicts only names of its kind.
 *
 * An entry that is held (its query is in flight) or pinned is never evicted, and doesn't count against the bound.
 */
type Ranked = 'probation' | 'protected'
type Segment = Ranked | 'held' | 'pinned'

const PROTECTED_SHARE = 0.8
/** A larger map isn't copied: its entries are old by then, and only a full collection frees them. */
const RENEWED_ENTRIES_MAX = 5000

interface Node<V> {
  readonly key: string
  value: V
  segment: Segment
  /** The segment of a held entry after its release. */
  rank: Ranked
  newer: Node<V> | null
  older: Node<V> | null
}

export class SegmentedLru<V> {
  #nodes = new Map<string, Node<V>>()
  #deletions = 0
  readonly #entriesMax: number
  readonly #protectedMax: number
  readonly #lists = {
    probation: new List<V>(),
    protected: new List<V>(),
    held: new List<V>(),
    pinned: new List<V>(),
  }

  /** @param entriesMax bounds the entries that are neither held nor pinned; the caller bounds the others */
  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax
    this.#protectedMax = Math.floor(entriesMax * PROTECTED_SHARE)
  }

  get size(): number {
    return this.#nodes.size
  }

  /** Counts as use. */
  get(key: string): V | undefined {
    const node = this.#nodes.get(key)
    if (node === undefined) return undefined
    this.#use(node)
    return node.value
  }

  /** Doesn't count as use. */
  peek(key: string): V | undefined {
    return this.#nodes.get(key)?.value
  }

  /** The entry isn't evicted until its release. After that a new key is on probation. */
  hold(key: string, value: V): void {
    const known = this.#nodes.get(key)
    if (known === undefined) {
      this.#add(key, value, 'held')
      return
    }
    known.value = value
    if (known.segment === 'pinned') return
    if (known.segment !== 'held') known.rank = known.segment
    this.#move(known, 'held')
  }

  /** Evicts the oldest entry where there are too many. */
  release(key: string): void {
    const node = this.#nodes.get(key)
    if (node?.segment !== 'held') return
    this.#move(node, node.rank)
    this.#demote()
    this.#evict()
  }

  /** Does nothing for a pinned entry. */
  delete(key: string): void {
    const node = this.#nodes.get(key)
    if (node !== undefined && node.segment !== 'pinned') this.#remove(node)
  }

  /** The entry isn't evicted until it is unpinned. */
  pin(key: string, value: V): void {
    const known = this.#nodes.get(key)
    if (known !== undefined) this.#remove(known)
    this.#add(key, value, 'pinned')
  }

  isPinned(key: string): boolean {
    return this.#nodes.get(key)?.segment === 'pinned'
  }

  unpin(key: string): void {
    const node = this.#nodes.get(key)
    if (node?.segment !== 'pinned') return
    this.#move(node, 'protected')
    this.#demote()
    this.#evict()
  }

  clear(): void {
    this.#nodes.clear()
    for (const list of Object.values(this.#lists)) list.clear()
  }

  /** In no particular order. */
  *values(): Generator<V> {
    for (const node of this.#nodes.values()) yield node.value
  }

  #use(node: Node<V>): void {
    if (node.segment === 'held') node.rank = 'protected'
    if (node.segment === 'held' || node.segment === 'pinned') return
    if (node.segment === 'protected' && this.#lists.protected.newest === node) return
    this.#move(node, 'protected')
    this.#demote()
  }

  #demote(): void {
    const oldest = this.#lists.protected.oldest
    if (this.#lists.protected.length > this.#protectedMax && oldest !== null) this.#move(oldest, 'probation')
  }

  #evict(): void {
    const { probation, protected: protectedList } = this.#lists
    if (probation.length + protectedList.length <= this.#entriesMax) return
    const victim = probation.oldest ?? protectedList.oldest
    if (victim !== null) this.#remove(victim)
  }

  #remove(node: Node<V>): void {
    this.#lists[node.segment].remove(node)
    this.#nodes.delete(node.key)
    // A busy map holds on to deleted entries, so the entries move to a new one now and then (decision 41).
    if (this.#nodes.size > RENEWED_ENTRIES_MAX || ++this.#deletions < this.#nodes.size / 2 + 32) return
    this.#deletions = 0
    this.#nodes = new Map(this.#nodes)
  }

  #add(key: string, value: V, segment: Segment): void {
    const node: Node<V> = { key, value, segment, rank: 'probation', newer: null, older: null }
    this.#nodes.set(key, node)
    this.#lists[segment].addNewest(node)
  }

  #move(node: Node<V>, segment: Segment): void {
    this.#lists[node.segment].remove(node)
    node.segment = segment
    this.#lists[segment].addNewest(node)
  }
}

class List<V> {
  newest: Node<V> | null = null
  oldest: Node<V> | null = null
  length = 0

  addNewest(node: Node<V>): void {
    node.older = this.newest
    node.newer = null
    if (this.newest !== null) this.newest.newer = node
    else this.oldest = node
    this.newest = node
    this.length++
  }

  remove(node: Node<V>): void {
    if (node.newer !== null) node.newer.older = node.older
    else this.newest = node.older
    if (node.older !== null) node.older.newer = node.newer
    else this.oldest = node.newer
    // Without its neighbours an evicted node doesn't keep them in memory.
    node.newer = null
    node.older = null
    this.length--
  }

  clear(): void {
    this.newest = null
    this.oldest = null
    this.length = 0
  }
}
