/** What a host does for sessions: their runs, and VMs that wait paused between them. */
import { join } from 'node:path';
import type { SealedRequests, SessionRuns, SessionVms } from '../../ports/runs.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createRunRequests } from '../../store/sessions/run-requests.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import { createVmFiles, type VmFiles } from '../files/vm-files.ts';
import type { HostLogger } from '../host-logger.ts';
import type { HostVms } from '../vms/vm-host.ts';
import { createSessionRuns } from './session-runs.ts';
import { createVmWatch, type TellVmGone } from './vm-watch.ts';

export interface HostSessionsOptions {
  readonly stateDir: string;
  readonly vms: Pick<HostVms, 'agent' | 'assertOwner' | 'pause' | 'resume' | 'setEgress' | 'status' | 'waitExit'>;
  readonly records: Pick<InstanceStore, 'read' | 'directory'>;
  readonly store: ObjectStore;
  readonly logger: HostLogger;
  readonly tellVmGone: TellVmGone;
  readonly settings: RunSettings;
}

export interface RunSettings {
  /** Most output of one run that is kept, bytes. */
  readonly maxOutputBytes: number;
  /** Most bytes taken from the guest that a crash of this machine would lose. */
  readonly maxUnsafeBytes: number;
  /** Pause after a lost channel before the next attach to the run, ms. */
  readonly reattachPauseMs: number;
  /** Pause before an owner that could not be told of the end of its VM is told again, ms. */
  readonly tellAgainMs: number;
}

export interface HostSessions {
  readonly runs: SessionRuns;
  readonly vms: SessionVms;
  readonly requests: SealedRequests;
  readonly files: VmFiles;
  /** Watches the VMs of sessions that an earlier process has left. */
  watchAll(vmIds: readonly string[]): Promise<void>;
  end(): void;
}

export function createHostSessions(options: HostSessionsOptions): HostSessions {
  const { stateDir, vms, records, store, logger, settings } = options;
  const files = createVmFiles(vms);
  const watch = createVmWatch({
    waitExit: (vmId, signal) => vms.waitExit(vmId, signal),
    records,
    tell: options.tellVmGone,
    retryMs: settings.tellAgainMs,
    logger,
  });
  return {
    runs: createSessionRuns({
      ...settings,
      vms,
      vmDirectory: (vmId) => records.directory(vmId),
      outputPath: ({ vmId, turn }) => join(stateDir, 'runs', vmId, String(turn)),
    }),
    vms: {
      async pause(vmId) {
        await vms.pause(vmId);
        files.interrupt(vmId);
        watch.watch(vmId);
      },
      setEgress: (vmId, allow) => vms.setEgress(vmId, { allow, privateAllowed: [] }),
      resume: async (vmId, more) => void (await vms.resume(vmId, { ...more, wallClockMs: Date.now })),
    },
    requests: createRunRequests(store),
    files,
    async watchAll(vmIds) {
      for (const vmId of vmIds) {
        const record = await records.read(vmId).catch(() => undefined);
        if (record?.owner.role === 'session') watch.watch(vmId);
      }
    },
    end: () => watch.end(),
  };
}
