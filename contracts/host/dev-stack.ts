/** `dev.json` in a stack's home: where its parts are while it runs. */
import { z } from 'zod';
import { hostIdSchema } from '../identifiers.ts';

export const DEV_STACK_FILE = 'dev.json';

export const devStackSchema = z.object({
  pid: z.int().min(1),
  apiUrl: z.url(),
  token: z.string().min(1).max(512),
  temporal: z.object({ address: z.string().min(1), uiUrl: z.string(), namespace: z.string().min(1) }),
  s3: z.object({ endpoint: z.string().min(1), bucket: z.string().min(1) }),
  hostId: hostIdSchema,
});
export type DevStack = z.infer<typeof devStackSchema>;
