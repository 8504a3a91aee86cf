import { upsertMemo, workflowInfo } from '@temporalio/workflow';
import type { PlacedProgress, ResolvedImage } from '../../placed/placed-owner.ts';
import { setAttributes } from '../../search-attributes.ts';
import type { SessionProgress } from './session-progress.ts';

/** Shows what is done for a session's VM among its events, and to the hosts. */
export class ShownInEvents implements PlacedProgress {
  private readonly state: SessionProgress;

  constructor(state: SessionProgress) {
    this.state = state;
  }

  /** Resolved when the session was created. */
  get image(): ResolvedImage {
    return this.state.state.settings.image;
  }

  showImage(): void {}

  wait(reason: string | undefined): void {
    if (reason === undefined) this.state.note({ of: 'place', to: 'placed' }, { code: 'PLACED' });
    else if (!this.isWaiting(reason)) {
      this.state.note({ of: 'place', to: 'waiting' }, { code: 'NO_ROOM', detail: reason });
    }
  }

  note(text: string): void {
    this.state.note({ of: 'place', to: 'lost' }, { code: 'HOST_LOST', detail: text });
  }

  /** A host compares the epoch of its VM with this one: only the newest VM may live. */
  showVm({ hostId, epoch, vmId }: { hostId: string; epoch: number; vmId: string }): void {
    setAttributes({ KilnHost: hostId });
    upsertMemo({ hostId, epoch, firstExecutionId: workflowInfo().firstExecutionRunId });
    this.state.note({ of: 'vm', vmId, to: 'starting' }, { code: 'PLACED' });
  }

  showBooted(): void {}

  /** A wait that is asked about each second is one event. */
  private isWaiting(reason: string): boolean {
    const last = this.state.state.events.at(-1);
    return last?.of === 'place' && last.to === 'waiting' && last.cause.detail === reason.slice(0, 200);
  }
}
