import type { PoolCounters, PoolStatus, PoolSummary } from '../../domain/pool/pool-status.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { durationText } from '../terminal/terminal-text.ts';
import { textColumns } from '../terminal/text-columns.ts';

const DIGEST_SHOWN = 19;

/** `kiln pool status`: with --json one document a host, as the API has it. @returns exit code */
export async function poolStatus(context: CliContext, output: CommandOutput): Promise<number> {
  const { items: hosts } = await (await context.connect()).listPools();
  if (output.json) for (const host of hosts) output.answer(host, () => []);
  else output.answer(hosts, () => hosts.flatMap((host) => statusLines(host, context.now())));
  return EXIT.ok;
}

/** `kiln pool inventory`: with --json one document a VM or template. @returns exit code */
export async function poolInventory(context: CliContext, output: CommandOutput): Promise<number> {
  const { items: hosts } = await (await context.connect()).listPools();
  const items = hosts.flatMap(inventoryOf);
  if (output.json) for (const item of items) output.answer(item, () => []);
  else output.answer(items, () => inventoryTable(items, context.now()));
  return EXIT.ok;
}

function statusLines(host: PoolStatus, now: number): string[] {
  const seen = `${durationText(now - Date.parse(host.at))} ago`;
  if (!host.enabled) return [`${host.hostId}: no pool (pool_size is 0), told ${seen}`];
  const table = textColumns(
    ['IMAGE', 'SIZE', 'PROJECT', 'WHY', 'READY', 'MAKING', 'HITS', 'WAITS', 'MISSES', 'RECYCLED', 'TEMPLATE'],
    host.pools.map((pool) => [
      nameOf(pool),
      sizeOf(pool),
      pool.projectId ?? '-',
      pool.reason,
      `${pool.ready} of ${pool.target}`,
      String(pool.creating),
      ...countsOf(pool.counters),
      pool.template === undefined ? 'none' : `${durationText(now - Date.parse(pool.template.createdAt))} old`,
    ]),
  );
  return [`${host.hostId}: ${hitRate(host.counters)}, told ${seen}`, ...table];
}

function hitRate({ hits, waits, misses }: PoolCounters): string {
  const asked = hits + waits + misses;
  if (asked === 0) return 'not asked yet';
  return `${Math.round(((hits + waits) / asked) * 100)} % of ${asked} requests were given a ready VM`;
}

function countsOf({ hits, waits, misses, recycled }: PoolCounters): string[] {
  const causes = Object.entries(recycled).map(([cause, count]) => `${cause} ${count}`);
  return [String(hits), String(waits), String(misses), causes.join(', ') || '-'];
}

interface InventoryItem {
  readonly kind: 'vm' | 'template';
  readonly hostId: string;
  readonly id: string;
  readonly state?: string;
  readonly image: string;
  readonly imageDigest: string;
  readonly vcpus: number;
  readonly memMib: number;
  readonly projectId?: string;
  readonly createdAt: string;
  readonly templateId?: string;
}

function inventoryOf(host: PoolStatus): InventoryItem[] {
  const { hostId } = host;
  const templates = host.templates ?? host.pools.flatMap(templateOf);
  const vms = host.pools.flatMap((pool) => {
    const { vcpus, memMib, imageDigest, projectId } = pool;
    const of = { hostId, image: nameOf(pool), imageDigest, vcpus, memMib, ...(projectId && { projectId }) };
    return pool.vms.map(({ vmId, ...vm }) => ({ kind: 'vm' as const, id: vmId, ...of, ...vm }));
  });
  return [...templates.map((one) => ({ kind: 'template' as const, id: one.templateId, hostId, ...one })), ...vms];
}

/** Templates of a host that does not list them separately. */
function templateOf(pool: PoolSummary): (Omit<InventoryItem, 'kind' | 'id' | 'hostId'> & { templateId: string })[] {
  const { vcpus, memMib, imageDigest, projectId, template } = pool;
  if (template === undefined) return [];
  return [{ image: nameOf(pool), imageDigest, vcpus, memMib, ...(projectId && { projectId }), ...template }];
}

function inventoryTable(items: readonly InventoryItem[], now: number): string[] {
  return textColumns(
    ['KIND', 'ID', 'HOST', 'STATE', 'IMAGE', 'SIZE', 'PROJECT', 'AGE', 'FROM'],
    items.map((item) => [
      item.kind,
      item.id,
      item.hostId,
      item.state ?? '-',
      item.image,
      sizeOf(item),
      item.projectId ?? '-',
      durationText(now - Date.parse(item.createdAt)),
      item.kind === 'template' ? '-' : (item.templateId ?? 'cold boot'),
    ]),
  );
}

function nameOf({ image, imageDigest }: Pick<PoolSummary, 'image' | 'imageDigest'>): string {
  return image ?? imageDigest.slice(0, DIGEST_SHOWN);
}

function sizeOf({ vcpus, memMib }: Pick<PoolSummary, 'vcpus' | 'memMib'>): string {
  return `${vcpus} vCPU, ${memMib} MiB`;
}
