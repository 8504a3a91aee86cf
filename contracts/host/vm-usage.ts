import { z } from 'zod';

/** What a VM uses of its machine, guest and VMM together, as the host measures it. */
export const vmUsageSchema = z.object({
  source: z
    .enum(['cgroup', 'process'])
    .meta({ description: "Who tells: the VM's control group, or its process alone." }),
  cpuMs: z.number().min(0).meta({ description: 'CPU time since its start, all cores, ms.' }),
  memoryBytes: z.number().min(0),
  memoryPeakBytes: z.number().min(0).exactOptional(),
  memoryLimitBytes: z.number().min(0).exactOptional(),
  shareBytes: z
    .number()
    .min(0)
    .exactOptional()
    .meta({ description: 'Its share of the memory where pages are shared with other VMs.' }),
});
export type VmUsageView = z.infer<typeof vmUsageSchema>;
