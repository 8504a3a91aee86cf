import type { SessionSaves } from '../../ports/saves.ts';
import { framed } from '../activity-frame.ts';
import { ownerOfCall } from '../vm/vm-call.ts';
import type { SessionHostActivities } from './session-types.ts';

/** Takes the workspace of a VM into the spool of its host. */
export function createSaveWorkspace(saves: SessionSaves): SessionHostActivities['saveWorkspace'] {
  return (input) => framed((signal) => saves.snapshot(workspaceOf(input), input.mark, signal));
}

/** Brings what is spooled of a session into the store. */
export function createUploadSaves(saves: SessionSaves): SessionHostActivities['uploadSaves'] {
  return (input) =>
    framed(async (signal) => {
      const { epoch } = ownerOfCall(input);
      return (await saves.upload({ session: input.name, epoch }, signal)) ?? null;
    });
}

/** Fills the workspace of a new VM with the newest save. */
export function createRestoreWorkspace(saves: SessionSaves): SessionHostActivities['restoreWorkspace'] {
  return (input) => framed(async (signal) => (await saves.restore(workspaceOf(input), signal)) ?? null);
}

function workspaceOf(input: Parameters<SessionHostActivities['restoreWorkspace']>[0]) {
  return { session: input.name, epoch: ownerOfCall(input).epoch, vmId: input.vmId };
}
