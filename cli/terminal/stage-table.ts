import type { WorkloadView } from '../../contracts/api/workload-view.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import { renderStageTable } from './render-stage-table.ts';
import { durationText, plainText } from './terminal-text.ts';

export { renderStageTable, type StageTableOptions } from './render-stage-table.ts';

/** What the table needs of a stream: `process.stdout`, or a stand-in. */
export interface TableStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  readonly rows?: number | undefined;
  hasColors?(): boolean;
}

/**
 * Shows a workload while it changes: on a terminal one table that is redrawn in its place, elsewhere a new line for
 * each stage entered and each reason to wait or leave, written once.
 */
export class LiveStageTable {
  private readonly stream: TableStream;
  private readonly now: () => number;
  private drawn: readonly string[] = [];
  private began = false;
  private lastSeq = 0;
  private lastReason: string | undefined;

  /** @param options.now clock, milliseconds since the epoch */
  constructor(stream: TableStream, options: { readonly now?: () => number } = {}) {
    this.stream = stream;
    this.now = options.now ?? Date.now;
  }

  /** Shows a view. May be called at any rate; unchanged content is not written again. */
  show(view: WorkloadView): void {
    if (this.stream.isTTY === true) this.redraw(view);
    else this.append(view);
  }

  /** Leaves the table on the screen; a later `show` begins a new one below. */
  end(): void {
    this.drawn = [];
  }

  private redraw(view: WorkloadView): void {
    const { columns = 80, rows = 24 } = this.stream;
    const lines = renderStageTable(view, {
      now: this.now(),
      // A line of the full width makes some terminals wrap, and a table higher than the screen cannot be redrawn.
      width: columns - 1,
      color: this.stream.hasColors?.() ?? false,
    }).slice(0, Math.max(1, rows - 1));
    if (lines.length === this.drawn.length && lines.every((line, index) => line === this.drawn[index])) return;
    const back = this.drawn.length === 0 ? '' : `\u001b[${this.drawn.length}A\r\u001b[J`;
    this.stream.write(`${back}${lines.join('\n')}\n`);
    this.drawn = lines;
  }

  private append(view: WorkloadView): void {
    if (!this.began) this.line(view.createdAt, `${view.id}  pending  ${view.servicePath}`);
    this.began = true;
    for (const [index, move] of view.transitions.entries()) {
      if (move.seq <= this.lastSeq) continue;
      const enteredAt = view.transitions[index - 1]?.at ?? view.createdAt;
      const spent = durationText(Date.parse(move.at) - Date.parse(enteredAt));
      this.line(move.at, `${view.id}  ${move.to}${why(view, move)}  (${move.from} ${spent})`);
      this.lastSeq = move.seq;
      this.lastReason = undefined;
    }
    this.appendReason(view);
  }

  private appendReason(view: WorkloadView): void {
    if (isFinal(view.stage)) return;
    const [at, reason] =
      view.leaving !== undefined
        ? [view.leaving.since, `leaving: ${view.leaving.cause}`]
        : view.waiting !== undefined
          ? [view.waiting.since, `waiting: ${view.waiting.reason}`]
          : [view.updatedAt, undefined];
    if (reason !== undefined && reason !== this.lastReason) this.line(at, `${view.id}  ${view.stage}  ${reason}`);
    this.lastReason = reason;
  }

  private line(at: string, text: string): void {
    this.stream.write(`${at} ${plainText(text)}\n`);
  }
}

/** What a reader wants to know of the stage just entered, beyond its name. */
function why(view: WorkloadView, { to, cause }: WorkloadView['transitions'][number]): string {
  if (to === 'failed') return `  ${view.code ?? cause}: ${view.error ?? cause}`;
  if (to === 'stopped') return `  ${cause}`;
  return to === 'running' && view.url !== undefined ? `  ${view.url}` : '';
}
