/** What one source says. `several` and `unclear`: what is read here need not be what the zone reads. */
export type IdReading =
  | { readonly kind: 'absent' }
  | { readonly kind: 'id'; readonly id: string }
  | { readonly kind: 'several' | 'unclear'; readonly text: string }
