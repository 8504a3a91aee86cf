/** Routes of guest images. */
import { imageListSchema } from '../image.ts';
import type { Route } from './route.ts';

export const IMAGE_ROUTES = {
  listImages: {
    method: 'GET',
    path: '/api/images',
    tag: 'hosts and images',
    summary: 'Published guest images',
    responses: { 200: imageListSchema },
  },
} as const satisfies Record<string, Route>;
