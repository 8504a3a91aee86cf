/** Images by reference and by digest. Types only; the rules of `ports/README.md` hold. */
import type { CachedImage } from '../domain/vm.ts';

export interface ImageCatalog {
  /** `name`, `name:tag` or `name@sha256:…` → the digest it stands for now. @throws IMAGE_MISSING */
  resolve(reference: string): Promise<{ name: string; digest: string }>;
}

export interface ImageCache {
  /** Brings an image to this host if it is not there, checked against its manifest. @throws IMAGE_MISSING, IMAGE_CORRUPT */
  ensure(digest: string, signal?: AbortSignal): Promise<CachedImage>;
}
