/** Routes of published guest images. */
import type { z } from 'zod';
import { imageViewSchema } from '../../contracts/api/image.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import type { RouteHandlers } from '../route-binding.ts';

type ImageView = z.infer<typeof imageViewSchema>;

/** @returns the handler of the list of images, which reads the store. */
export function imageHandlers(store: ObjectStore): Pick<RouteHandlers, 'listImages'> {
  return { listImages: async () => ({ status: 200, body: { items: await imagesOf(store) } }) };
}

async function imagesOf(store: ObjectStore): Promise<ImageView[]> {
  const items: ImageView[] = [];
  for await (const { key } of store.listAll(storeKeys.images)) {
    const found = await store.readDocument(key, imageViewSchema);
    if (found !== undefined) items.push(found.value);
  }
  return items;
}
