/** A worker that starts one VM of the fake driver and is then killed by its test: `node start-vm-worker.ts JSON`. */
import { z } from 'zod';
import { createFakeDriver } from '../../../vmm/fake/fake-driver.ts';
import { machineLimits } from '../../support/host/group-limits.ts';
import { plainVmSpec, silentLog } from '../../support/host/vm-fixtures.ts';
import { identity } from './vm-driver-identity.ts';

const argument = z.object({ stateDir: z.string(), runtimeDir: z.string(), agentBinary: z.string(), vmId: z.string() });
const { vmId, ...options } = argument.parse(JSON.parse(process.argv[2] ?? ''));

const limits = await machineLimits(options.stateDir);
const driver = createFakeDriver({
  ...options,
  limits,
  allowFake: true,
  asRoot: process.getuid?.() === 0,
  log: silentLog,
});
await driver.prepare(plainVmSpec(vmId));
await driver.start(vmId, { identity: identity(vmId), deadlineMs: 60_000 });
process.stdout.write('started\n');
await driver.waitExit(vmId);
