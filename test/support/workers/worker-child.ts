/**
 * One process of a Kiln, to be killed: the host worker over the fake driver, the control worker, or a gateway. Its ports
 * have gates that the parent sets by messages.
 */
import { flushCompileCache } from 'node:module';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { defined } from '../../../domain/defined.ts';
import { createObjectStore } from '../../../store/object-store.ts';
import { namespaceId } from '../../../temporal/namespace.ts';
import { callingActivity } from './calling-activity.ts';
import { callingThread, startGatedGateway } from './gated-gateway.ts';
import { controlWorkerOf, type HarnessOptions, HostRunner } from './harness-workers.ts';
import { portError } from './port-errors.ts';
import { PortGates } from './port-gates.ts';
import { childCommandSchema, childSpecSchema, objectStoreOptions } from './worker-messages.ts';

// The process must not outlive the test that started it.
process.on('disconnect', () => process.exit(1));
Runtime.install({ shutdownSignals: [], logger: new DefaultLogger('ERROR') });
const spec = childSpecSchema.parse(JSON.parse(process.argv[2] ?? ''));
const gates = new PortGates(spec.role === 'gateway' ? callingThread : callingActivity);
process.on('message', (message) => {
  const { kind, id, port, moment, by, error } = childCommandSchema.parse(message);
  const tell = (what: 'set' | 'reached') => process.send?.({ kind: what, id });
  const failure = () => portError(error, `${moment} ${port}`);
  const call = kind === 'hold' ? gates.hold(port, moment, by) : gates.failOnce(port, moment, failure, by);
  void call.reached.then(() => tell('reached'));
  tell('set');
});
const options: HarnessOptions = {
  guests: spec.guests,
  ...(spec.leases === undefined ? {} : { hostSettings: { leases: spec.leases } }),
  hostPorts: (ports) => gates.over(ports),
  controlPorts: (ports) => gates.over(ports),
};
const connection = await Connection.connect({ address: spec.temporalAddress });
const native = await NativeConnection.connect({ address: spec.temporalAddress });
const { namespace, directory, hostId, workflowBundle, guests } = spec;
const store = createObjectStore(objectStoreOptions(spec.s3));
const around = { options, store, connection, native, namespace, directory, hostId };
let url: string | undefined;
if (spec.role === 'gateway') {
  ({ url } = await startGatedGateway({ connection, namespace, store, guests }, gates));
} else if (spec.role === 'control') {
  const { worker } = await controlWorkerOf({ ...around, workflowBundle });
  void worker.run();
} else {
  const temporal = new Client({ connection, namespace });
  await new HostRunner({ ...around, temporal, namespaceId: await namespaceId(connection, namespace) }).start();
}
process.send?.({ kind: 'ready', ...defined({ url }) });
// It is always killed, and Node.js keeps what it has compiled only at an exit.
flushCompileCache();
