/** Owns an inspection process that is busy forever; prints its pid once it is busy. Its test kills it. */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { createHostInspections } from '../../../host/inspections.ts';
import { parseCpuMs } from '../../../vmm/limits/process-usage.ts';
import { silentLogger } from '../workers/silent-logger.ts';
import { inspectionSettings, LIMITS, SCRIPTED_READER } from './inspection-pools.ts';

const SPUN_MS = 100;

const pool = createHostInspections(inspectionSettings({ children: 1 }), silentLogger, SCRIPTED_READER);
pool.start();
const ask = (servicePath: string) => pool.inspect({ root: '/', servicePath, limits: LIMITS }, { owner: '' });
await ask('answer');
const [pid] = pool.pids();
const cpuMs = async () => parseCpuMs(await readFile(`/proc/${pid}/stat`, 'latin1')) ?? 0;
const idle = await cpuMs();
void ask('spin').catch(() => undefined);
while ((await cpuMs()) < idle + SPUN_MS) await delay(5);
process.stdout.write(`${pid}\n`);
