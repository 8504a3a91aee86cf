/** A worker that its test kills at some moment: `node killed-worker.ts JSON`. Prints `begun`, and `done` at the end. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { identity } from '../conformance/vm-driver/vm-driver-identity.ts';
import { cloneSpecOf, freezeInto } from '../support/guest/frozen-guest.ts';
import { openLimitedDriver } from '../support/host/limited-driver.ts';

const argument = z.object({
  places: z.object({ stateDir: z.string(), runtimeDir: z.string() }),
  work: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('freeze'), directory: z.string(), name: z.string() }),
    z.object({ kind: z.literal('clone'), template: z.string(), vmId: z.string() }),
  ]),
});
const { places, work } = argument.parse(JSON.parse(process.argv[2] ?? ''));
const driver = await openLimitedDriver(places);
process.stdout.write('begun\n');
if (work.kind === 'freeze') await freezeInto(driver, work.directory, work.name);
else await liveThrough(work.vmId, work.template);
process.stdout.write('done\n');
process.exit();

/** Runs a clone through its whole life, from its disks to its end. */
async function liveThrough(vmId: string, template: string): Promise<void> {
  const directory = join(places.stateDir, 'vms', vmId);
  await mkdir(directory, { recursive: true });
  await driver.prepare(await cloneSpecOf(template, vmId, directory));
  const { agent } = await driver.start(vmId, { identity: identity(vmId), deadlineMs: 60_000 });
  await driver.pause(vmId);
  await driver.resume(vmId, { wallClockMs: Date.now, deadlineMs: 60_000, agent });
  await driver.stop(vmId, { graceMs: 60_000, agent });
  await driver.destroy(vmId);
}
