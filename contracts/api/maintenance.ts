/** The report of a maintenance run. */
import { z } from 'zod';
import type { MaintenanceReport } from '../../domain/upkeep/maintenance.ts';
import { hostIdSchema } from '../identifiers.ts';

const count = z.int().min(0);

export const maintenanceReportSchema = z.object({
  recorded: z.object({
    seen: count.meta({ description: 'Closed executions looked at.' }),
    executions: count.meta({ description: 'Executions whose history was written.' }),
    workflows: count.meta({ description: 'Workloads whose whole history is in the archive since this run.' }),
    results: count.meta({ description: 'Results written for workloads that could not write theirs.' }),
    failed: count,
    more: z.boolean().meta({ description: 'Some were left to the next run.' }),
  }),
  hosts: z.array(
    z.object({
      hostId: hostIdSchema,
      swept: z.boolean().meta({ description: 'false: the host did not answer.' }),
      destroyed: count.meta({ description: 'VMs whose owner was over.' }),
      freed: count.meta({ description: 'Workloads of which nothing is held there any more.' }),
      held: count,
    }),
  ),
  pruned: z.object({
    logs: count,
    sources: count,
    saves: count
      .exactOptional()
      .meta({ description: 'Objects that no save of a session needed. Absent: nobody looked for them.' }),
  }),
  problems: z.array(z.string()).meta({ description: 'Each is tried again by the next run.' }),
}) satisfies z.ZodType<MaintenanceReport>;

export const recordReplySchema = z.object({
  report: maintenanceReportSchema.exactOptional().meta({ description: 'Absent: the run goes on.' }),
});
