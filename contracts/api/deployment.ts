/** Deployments: plain documents that workloads can name. */
import { z } from 'zod';
import { deploymentIdSchema, isoTimeSchema, projectIdSchema, servicePathSchema } from '../identifiers.ts';

export const createDeploymentBodySchema = z.strictObject({
  id: deploymentIdSchema
    .exactOptional()
    .meta({ description: "The caller's key: a second create with it and the same body answers for the same record." }),
  projectId: projectIdSchema,
  serviceName: z
    .string()
    .min(1)
    .max(100)
    .regex(/^[^\u0000-\u001f\u007f]+$/, 'must hold no control characters'),
  servicePath: servicePathSchema,
});
export type CreateDeploymentBody = z.infer<typeof createDeploymentBodySchema>;

/** `deployments/<id>.json`, and the API's answer. */
export const deploymentSchema = z.object({
  id: deploymentIdSchema,
  projectId: projectIdSchema,
  serviceName: z.string(),
  servicePath: servicePathSchema,
  status: z.enum(['active']),
  createdAt: isoTimeSchema,
});
export type Deployment = z.infer<typeof deploymentSchema>;

export const deploymentPageSchema = z.object({ items: z.array(deploymentSchema), next: z.string().exactOptional() });
