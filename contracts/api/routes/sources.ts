/** Routes of uploaded sources. */
import { z } from 'zod';
import { sha256Schema } from '../../identifiers.ts';
import { GZIP_TYPE, TAR_TYPE, uploadedSourceSchema } from '../source.ts';
import type { Route } from './route.ts';

export const SOURCE_ROUTES = {
  uploadSource: {
    method: 'POST',
    path: '/api/sources',
    tag: 'sources',
    summary: 'Upload the sources of a service as a tar',
    description:
      'Find-or-create by digest: 201 where the sources are new, 200 where they were stored already. The digest is that of the tar itself, also where it comes compressed. Files, folders and symbolic links that stay inside are taken; everything else is refused by name.',
    query: z.object({
      sha256: sha256Schema.exactOptional().meta({ description: 'What the digest must be; refused where it differs.' }),
    }),
    upload: [TAR_TYPE, GZIP_TYPE],
    responses: { 200: uploadedSourceSchema, 201: uploadedSourceSchema },
  },
  getSource: {
    method: 'GET',
    path: '/api/sources/:sha256',
    tag: 'sources',
    summary: 'Whether sources are stored, whole',
    params: z.object({ sha256: sha256Schema }),
    responses: { 200: uploadedSourceSchema },
  },
} as const satisfies Record<string, Route>;
