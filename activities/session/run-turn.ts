import type { SessionPorts } from '../../ports/runs.ts';
import { framed } from '../activity-frame.ts';
import type { SessionHostActivities } from './session-types.ts';

/** Runs a command in the session's VM. A lost worker changes nothing: the next call joins or attaches. */
export function createRunTurn({ runs, requests, vms }: SessionPorts): SessionHostActivities['runTurn'] {
  return ({ vmId, turn, name, runId, body, timeoutMs, silentMs, egress }) =>
    framed(
      async (signal) => {
        await vms.setEgress(vmId, egress, signal);
        const command = () => requests.open(name, runId, body);
        return runs.run({ vmId, turn, session: name, runId, timeoutMs, silentMs, command }, signal);
      },
      { isMadeAgain: true },
    );
}

export function createCancelRun({ runs }: Pick<SessionPorts, 'runs'>): SessionHostActivities['cancelRun'] {
  return ({ vmId, turn }) => framed(() => runs.cancel({ vmId, turn }));
}
