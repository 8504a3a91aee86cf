import { setCurrentDetails } from '@temporalio/workflow';
import { defined } from '../../domain/defined.ts';
import type { SearchAttribute } from '../../domain/names.ts';
import { applyMove } from '../../domain/workload/reducer.ts';
import { isFinal, type Stage } from '../../domain/workload/stages.ts';
import type { PlacedVm, StageMove, WorkloadFailure, WorkloadState } from '../../domain/workload/workload.ts';
import type { WorkloadInput } from '../../domain/workload/workload-input.ts';
import type { PlacedProgress, ResolvedImage } from '../placed/placed-owner.ts';
import { setAttributes } from '../search-attributes.ts';
import { currentDetails } from './current-details.ts';

/** Why a workload leaves: the first cause in history order fixes the outcome. */
export type EndCause =
  | { readonly kind: 'stop'; readonly text: string }
  | { readonly kind: 'cancel'; readonly text: string }
  | { readonly kind: 'failure'; readonly text: string; readonly failure: WorkloadFailure };

/** The state of one workload: what the query answers, what the operator sees, what is archived. */
export class WorkloadProgress implements PlacedProgress {
  private current: WorkloadState;
  private ending: EndCause | undefined;
  private readonly logsUrl: string | undefined;

  constructor(input: WorkloadInput) {
    this.logsUrl = input.logsUrl;
    this.current = input.carried?.state ?? initialState(input);
    this.show();
  }

  get state(): WorkloadState {
    return this.current;
  }

  get stage(): Stage {
    return this.current.stage;
  }

  get end(): EndCause | undefined {
    return this.ending;
  }

  /**
   * The only function that changes the stage: checks the table; sets state, search attribute, details, list of moves.
   * @throws KilnError INVALID_TRANSITION
   */
  enter(to: Stage, cause: string, attributes: Partial<Record<SearchAttribute, string>> = {}): void {
    const at = now();
    const { stage, moves } = applyMove(this.current, { to, at, cause });
    const { leaving: _leaving, waiting: _waiting, ...rest } = this.current;
    this.current = isFinal(to)
      ? { ...rest, stage, moves, updatedAt: at }
      : { ...this.current, stage, moves, updatedAt: at };
    setAttributes({ KilnStage: to, ...attributes });
    this.show();
  }

  /** Fixes the outcome; a later cause is only noted. @returns whether it was the first cause. */
  leave(cause: EndCause): boolean {
    if (this.ending !== undefined) {
      if (cause.kind === 'failure')
        this.note(`after ${this.ending.text}: ${cause.failure.code} ${cause.failure.message}`);
      return false;
    }
    this.ending = cause;
    const { waiting: _waiting, ...rest } = this.current;
    const leaving = { cause: cause.text, since: now() };
    this.current = cause.kind === 'failure' ? { ...rest, leaving, failure: cause.failure } : { ...rest, leaving };
    this.update({});
    return true;
  }

  get image(): ResolvedImage | undefined {
    return this.current.image;
  }

  showImage(image: ResolvedImage): void {
    this.update({ image });
  }

  showVm(vm: PlacedVm): void {
    this.update({ vm });
  }

  showBooted({ pid }: { pid: number }): void {
    this.updateVm({ pid });
    this.update({ vmReadyMs: Date.now() - Date.parse(this.current.createdAt) });
  }

  updateVm(patch: { pid?: number; port?: number; url?: string }): void {
    const { vm } = this.current;
    if (vm) this.update({ vm: { ...vm, ...patch } });
  }

  note(text: string): void {
    this.update({ notes: [...this.current.notes, text.slice(0, 500).toWellFormed()].slice(-20) });
  }

  /** Why the workload waits; undefined when it does not wait. */
  wait(reason: string | undefined, ahead?: number): void {
    const { waiting, ...rest } = this.current;
    if (reason === waiting?.reason && ahead === waiting?.ahead) return;
    const line = ahead === undefined ? {} : { ahead };
    this.current =
      reason === undefined ? rest : { ...rest, waiting: { reason, since: waiting?.since ?? now(), ...line } };
    this.update({});
  }

  update(patch: Partial<WorkloadState>): void {
    this.current = { ...this.current, ...patch, updatedAt: now() };
    this.show();
  }

  private show(): void {
    setCurrentDetails(currentDetails(this.current, this.logsUrl));
  }
}

/** @returns the workflow's own deterministic time as ISO 8601. */
export function now(): string {
  return new Date(Date.now()).toISOString();
}

function initialState(input: WorkloadInput): WorkloadState {
  const moves: readonly StageMove[] = [];
  return {
    workloadId: input.workloadId,
    ...defined({ deploymentId: input.deploymentId, projectId: input.projectId }),
    servicePath: input.servicePath,
    ...defined({ priority: input.priority }),
    stage: 'pending',
    notes: [],
    unreleased: [],
    moves,
    createdAt: input.requestedAt,
    updatedAt: input.requestedAt,
  };
}
