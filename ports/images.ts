/** Images by reference and by digest. Types only; see the rules in `ports/README.md`. */
import type { CachedImage } from '../domain/vm.ts';

export interface ImageCatalog {
  /** `name`, `name:tag` or `name@sha256:…` → its present digest. @throws IMAGE_MISSING */
  resolve(reference: string): Promise<{ name: string; digest: string }>;
}

export interface ImageCache {
  /** Downloads an image to this host if needed, checked against its manifest. @throws IMAGE_MISSING, IMAGE_CORRUPT */
  ensure(digest: string, signal?: AbortSignal): Promise<CachedImage>;
}
