import { code, plain } from '../../domain/markdown-text.ts';
import type { MaintenanceReport } from '../../domain/upkeep/maintenance.ts';

const PROBLEM = 300;
const HOSTS = 50;

function removedRow({ logs, sources, saves = 0 }: MaintenanceReport['pruned']): string[] {
  const parts = [`${logs} logs`, `${sources} sources`, ...(saves > 0 ? [`${saves} objects of saves`] : [])];
  return logs + sources + saves > 0 ? [`- **Removed:** ${parts.join(', ')}`] : [];
}

/** Page for the operator about one run, in the Temporal Web UI. Markdown of bounded size. Pure. */
export function maintenanceDetails({ recorded, hosts, pruned, problems }: MaintenanceReport, doing: string): string {
  const rows = [
    `- **Recorded:** ${recorded.executions} executions, ${recorded.workflows} whole histories, ${recorded.results} results; looked at ${recorded.seen}`,
    ...(recorded.more ? ['- **More:** the next run goes on'] : []),
    ...(recorded.failed > 0 ? [`- **Not recorded yet:** ${recorded.failed}, tried again by the next run`] : []),
    ...hosts.slice(0, HOSTS).map((host) => {
      if (!host.swept) return `- **Host ${code(host.hostId)}:** did not answer`;
      return `- **Host ${code(host.hostId)}:** ${host.destroyed} VMs destroyed, ${host.freed} workloads freed, ${host.held} held`;
    }),
    ...(hosts.length > HOSTS ? [`- and ${hosts.length - HOSTS} hosts more`] : []),
    ...removedRow(pruned),
    ...problems.map((problem) => `- ⚠ ${plain(problem, PROBLEM)}`),
  ];
  return [`### ${problems.length > 0 ? '⚠' : '●'} ${doing}`, '', ...rows].join('\n');
}
