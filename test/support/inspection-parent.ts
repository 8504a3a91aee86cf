/** Owns a process that reads folders and is busy for ever; says its pid, to be killed. */
import { createHostInspections } from '../../host/inspections.ts';
import { inspectionSettings, LIMITS, SCRIPTED_READER } from './inspection-pools.ts';
import { silentLogger } from './silent-logger.ts';

const pool = createHostInspections(inspectionSettings({ children: 1 }), silentLogger, SCRIPTED_READER);
pool.start();
const ask = (servicePath: string) => pool.inspect({ root: '/', servicePath, limits: LIMITS }, { owner: '' });
await ask('answer');
void ask('spin').catch(() => undefined);
process.stdout.write(`${pool.pids()[0]}\n`);
