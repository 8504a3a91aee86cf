/** The answer of `/readyz`. */
import { z } from 'zod';

export const readinessSchema = z.object({
  ready: z.boolean(),
  checks: z.array(z.object({ name: z.string(), ok: z.boolean(), detail: z.string().exactOptional() })),
});
export type Readiness = z.infer<typeof readinessSchema>;
