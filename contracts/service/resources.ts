import { z } from 'zod';
import type { Resources } from '../../domain/workload/workload.ts';

/** What a VM may use, in a request or a kiln.json; absent parts have the default. */
export const resourcesSchema = z.strictObject({
  vcpus: z.int().min(1).max(64).exactOptional().meta({ description: 'Virtual processors.' }),
  memMib: z.int().min(128).max(262_144).exactOptional().meta({ description: 'Memory of the guest, MiB.' }),
  diskMib: z.int().min(64).max(65_536).exactOptional().meta({
    description:
      'Size of /workspace, MiB; absent: as large as that of the image. More than it holds is "no space left".',
  }),
}) satisfies z.ZodType<Partial<Resources>>;
