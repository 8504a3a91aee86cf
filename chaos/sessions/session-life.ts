/** One session that lives through the steps of a life, and is compared with its model after each. */
import { setTimeout as delay } from 'node:timers/promises';
import type { KilnClient } from '../../client/http/kiln-client.ts';
import type { Session } from '../../client/http/sessions/session.ts';
import type { RunView } from '../../contracts/api/session-view.ts';
import { isKilnError } from '../../domain/failures.ts';
import { throughOutages } from '../../test/support/workers/dev-stack.ts';
import type { SeededRandom } from '../random.ts';
import { walksOf } from './guest-walk.ts';
import type { Disturbance, Step } from './life.ts';
import { markOf, OTHER_MARK, type Sent, sendRun } from './life-runs.ts';
import { differences, emptyTree, type SeenTree, type Tree } from './tree.ts';
import { type Changes, ROOT, randomChanges, WRITTEN } from './tree-changes.ts';
import { Versions } from './versions.ts';
import { walkOfTar } from './walk-of-tar.ts';

export interface LifePorts {
  readonly api: KilnClient;
  readonly thread: string;
  readonly random: SeededRandom;
  disturb(what: Disturbance): Promise<void>;
  /** @returns whether it had a VM that ran */
  killVm(thread: string): Promise<boolean>;
  /** Counts what has been done. */
  count(what: string): void;
  wrong(line: string): void;
}

/** A run that something happens to is there for this long, s. */
const LINGER_S = 1;
/** No VM that goes makes a request for a file fail so. */
const NEVER_LAWFUL: readonly string[] = ['SPEC_INVALID', 'NOT_FOUND', 'INTERNAL'];
/** What may become of a run whose VM is gone. */
const VM_GONE: readonly (string | undefined)[] = ['HOST_LOST', 'VMM_EXITED', 'GUEST_CRASHED', 'RUN_LOST'];
const POLL_MS = 50;
/** A caller who repeats what nobody answers goes on for as long as a life may be disturbed. */
const PATIENT = { tries: 100, pauseMs: 100, maxPauseMs: 1_000 };

export class SessionLife {
  private readonly ports: LifePorts;
  private readonly session: Session;
  private versions: Versions | undefined;
  /** Ids of runs in the order in which they were sent. */
  private readonly ids: string[] = [];
  /** How often something that takes VMs has begun or ended. */
  private harms = 0;

  constructor(ports: LifePorts) {
    this.ports = ports;
    this.session = ports.api.session(ports.thread, { repeat: PATIENT });
  }

  /** Something takes the VMs of all sessions. */
  harmed(): void {
    this.harms += 1;
    this.versions?.mayBeLost();
  }

  async live(steps: readonly Step[]): Promise<void> {
    await this.look();
    for (const step of steps) {
      await this.take(step);
      this.ports.count(step.kind);
    }
    await this.end();
  }

  /** Closes it, so that nothing is left where something was found. */
  async abandon(): Promise<void> {
    await throughOutages(() => this.session.close({ waitMs: 60_000 })).catch((error: unknown) => {
      this.ports.wrong(`it cannot be closed: ${String(error)}`);
    });
  }

  private take(step: Step): Promise<void> {
    switch (step.kind) {
      case 'run':
        return this.runs(step);
      case 'cancel':
        return this.cancel(step.changes);
      case 'write-file':
        return this.writeFile(step);
      case 'delete-file':
        return this.deleteFile();
      case 'sleep':
        return this.sleep();
      case 'read-turn':
        return this.readTurn();
      case 'kill-vm':
        return this.killVm();
      case 'disturb':
        return this.disturb(step.what);
    }
  }

  private known(): Versions {
    if (this.versions === undefined) throw new Error('the session has had no run');
    return this.versions;
  }

  /** A run that changes nothing. */
  private async look(): Promise<RunView> {
    const sent = this.send(undefined, '');
    const view = await this.over(sent);
    await this.judge(sent, view, this.harms);
    return view;
  }

  private send(changes: Changes | undefined, then: string, mark = ''): Sent {
    const id = `run-${this.ids.length + 1}`;
    this.ids.push(id);
    return sendRun(this.session, { id, changes, then, mark });
  }

  /** Waits for the end of a run, however it ends. */
  private async over({ run }: Sent): Promise<RunView> {
    const look = () => this.ports.api.getRun({ params: { thread: this.session.thread, id: run.id }, query: {} });
    for (;;) {
      const view = await run.result().catch(async (error: unknown) => {
        if (!isKilnError(error)) throw error;
        return throughOutages(look);
      });
      if (view.state !== 'running' && view.state !== 'waiting') return view;
      // Nobody could answer for long.
      this.ports.count('waited again');
    }
  }

  private changesFor(count: number, base: Tree): { changes: Changes; after: Tree } {
    const changes = randomChanges(this.ports.random, base, { count, id: `m${this.ids.length + 1}` });
    const after = base.copy();
    changes.apply(after);
    return { changes, after };
  }

  private async runs({ runs, changes: count, during, wait }: Extract<Step, { kind: 'run' }>): Promise<void> {
    const harms = this.harms;
    let base = this.known().now;
    const sent: Sent[] = [];
    for (let n = 0; n < runs; n++) {
      const mark = markOf(base);
      const { changes, after } = this.changesFor(count, base);
      sent.push(this.send(changes, during === undefined ? '' : `sleep ${LINGER_S}`, mark));
      base = after;
    }
    const disturbed = during === undefined ? undefined : this.later(during.afterMs, during.what);
    // Whatever is found wrong before, nobody else waits for it.
    disturbed?.catch(() => undefined);
    let last: RunView | undefined;
    for (const one of sent) {
      last = await this.over(one);
      await this.judge(one, last, harms);
    }
    await disturbed;
    if (wait === 'until-saved' && last?.state === 'finished') await this.untilSaved(last);
    if (wait === 'until-warm') await this.untilTier('warm', 'cold');
  }

  private async later(afterMs: number, what: Disturbance | { readonly kind: 'kill-vm' }): Promise<void> {
    await delay(afterMs);
    if (what.kind === 'kill-vm') await this.killVm();
    else await this.disturb(what);
  }

  private async disturb(what: Disturbance): Promise<void> {
    this.ports.count(what.kind);
    await this.ports.disturb(what);
  }

  private async killVm(): Promise<void> {
    this.harmed();
    if (await this.ports.killVm(this.session.thread)) this.ports.count('VM killed');
  }

  /** @param harms what had happened when it was sent */
  private async judge(sent: Sent, view: RunView, harms: number): Promise<void> {
    const { state, turn, lost } = view;
    this.ports.count(`run ${state}`);
    if (state === 'failed') {
      this.ports.count(`failed ${view.failure?.code}`);
      const isLawful = this.versions?.maySay.lost === true && VM_GONE.includes(view.failure?.code);
      if (!isLawful) this.ports.wrong(`${view.id} failed: ${JSON.stringify(view.failure)}`);
      else if (turn !== undefined) this.versions?.runFailed();
      return;
    }
    if (turn === undefined) return;
    if (lost !== undefined) this.ports.count('loss told');
    const output = await sent.output;
    const [before, after] = output === undefined ? [] : walksOf(output);
    if (before === undefined) {
      if (!this.known().maySay.lost) this.ports.wrong(`${view.id} has no output`);
      this.ports.count('output gone');
      this.unseen(view, sent);
      return;
    }
    this.versions ??= new Versions(emptyTree(before), (line) => this.ports.wrong(line));
    const found = this.versions.found({ turn, lost }, before);
    if (harms === this.harms) this.versions.settled();
    this.ports.count('compared');
    // Nothing after it could be compared.
    if (found === undefined) throw new Error('the model does not know the workspace any more');
    const tree = found.copy();
    if (sent.changes === undefined || view.exit?.code === OTHER_MARK) {
      if (sent.changes !== undefined && markOf(tree) === sent.mark) {
        this.ports.wrong(`${view.id} has found another mark than it looked for, in a workspace that has it`);
      }
      this.versions.add(turn, tree);
    } else this.changed(view, sent.changes, tree, after);
    if (view.saved === true) this.versions.isSaved(turn);
  }

  private changed({ id, turn = 0, state, exit }: RunView, changes: Changes, tree: Tree, after?: SeenTree): void {
    changes.apply(tree);
    if (state === 'finished' && exit?.code !== 0) this.ports.wrong(`${id} ended ${JSON.stringify(exit)}`);
    if (after === undefined) this.ports.wrong(`${id} has not looked at its workspace again`);
    else {
      const wrong = differences(tree.seen(), after);
      if (wrong.length > 0) this.ports.wrong(`${id} left another workspace: ${wrong.slice(0, 5).join('; ')}`);
      tree.learnTimes(after);
    }
    this.known().add(turn, tree);
  }

  /** Its output went with its machine: what it has found is not known, but what it has done is. */
  private unseen({ turn = 0, exit, lost }: RunView, { changes }: Sent): void {
    const tree = this.known().now.copy();
    if (exit?.code === 0 && lost === undefined) changes?.apply(tree);
    this.known().add(turn, tree);
  }

  private async untilSaved({ id, turn = 0 }: RunView): Promise<void> {
    const harms = this.harms;
    for (;;) {
      const query = {};
      const { saved } = await throughOutages(() =>
        this.ports.api.getRun({ params: { thread: this.session.thread, id }, query }),
      );
      if (saved === true) return this.known().isSaved(turn);
      // It may be lost by now.
      if (this.harms !== harms) return;
      await delay(POLL_MS);
    }
  }

  private async untilTier(...tiers: readonly string[]): Promise<void> {
    for (;;) {
      const { tier } = await throughOutages(() => this.session.get());
      if (tiers.includes(tier)) return;
      await delay(POLL_MS);
    }
  }

  private async sleep(): Promise<void> {
    const harms = this.harms;
    for (;;) {
      const { tier } = await throughOutages(() => this.session.sleep({ waitMs: 10_000 }));
      if (tier === 'cold') break;
    }
    // Nothing was lost on the way: so everything is in the store.
    if (harms === this.harms && !this.known().maySay.lost) this.known().isNowSaved();
  }

  private async cancel(count: number): Promise<void> {
    const harms = this.harms;
    const base = this.known().now;
    const { changes } = this.changesFor(count, base);
    const sent = this.send(changes, 'sleep 600', markOf(base));
    const ended = this.over(sent);
    const isBusy = (async () => {
      const pieces: Uint8Array[] = [];
      for await (const { bytes } of sent.run) {
        if (bytes !== undefined) pieces.push(bytes);
        if (walksOf(Buffer.concat(pieces)).length === 2) return;
      }
    })();
    await Promise.race([ended, isBusy]);
    await throughOutages(() => sent.run.cancel()).catch((error: unknown) => {
      if (!isKilnError(error)) throw error;
    });
    await this.judge(sent, await ended, harms);
  }

  private async writeFile({ bytes, untilSaved }: Extract<Step, { kind: 'write-file' }>): Promise<void> {
    const { api, random } = this.ports;
    const path = `${WRITTEN}/${random.pick(['one', 'two', 'three'])}.txt`;
    const content = Buffer.alloc(bytes, `${random.between(0, 9_999)} `);
    const harms = this.harms;
    const { saved } = await this.throughHarm(() =>
      api.putSessionFile(
        { thread: this.session.thread, path },
        new Blob([content]),
        untilSaved ? { wait: 'saved' } : {},
      ),
    );
    const isSure = await this.wrote(harms, (tree) => {
      if (tree.get(WRITTEN) === undefined) tree.set(WRITTEN, folder());
      const before = tree.get(path);
      const mode = before === undefined ? 0o644 : before.mode;
      tree.set(path, { kind: 'file', mode, uid: 0, gid: 0, mtime: undefined, content });
      Object.assign(tree.get(WRITTEN) ?? {}, { mtime: undefined });
      Object.assign(tree.get(ROOT) ?? {}, { mtime: undefined });
    });
    if (saved === true && isSure) this.known().isNowSaved();
  }

  private async deleteFile(): Promise<void> {
    const [path] = this.known()
      .now.paths('file')
      .filter((one) => one.startsWith(`${WRITTEN}/`));
    if (path === undefined) return;
    const harms = this.harms;
    const params = { thread: this.session.thread, path };
    let tries = 0;
    await this.throughHarm(async () => {
      tries += 1;
      await this.ports.api.deleteSessionFile({ params, query: {} }).catch((error: unknown) => {
        // An earlier try was done, and its answer lost; or the file went with a VM.
        const mayBeGone = tries > 1 || this.known().maySay.lost;
        if (!mayBeGone || !isKilnError(error, 'NOT_FOUND')) throw error;
      });
    });
    await this.wrote(harms, (tree) => {
      tree.remove(path);
      Object.assign(tree.get(WRITTEN) ?? {}, { mtime: undefined });
    });
  }

  /** A loss is told to runs only: where there may be one, a run looks at once. @returns whether there could be none */
  private async wrote(harms: number, change: (tree: Tree) => void): Promise<boolean> {
    const versions = this.known();
    // It may have gone to either of two VMs.
    if (harms !== this.harms) versions.mayBeLost();
    versions.write(change);
    if (!versions.maySay.lost) return true;
    this.ports.count('write unsure');
    await this.look();
    return false;
  }

  /** Repeats what a VM or host that goes may refuse. */
  private async throughHarm<T>(call: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await throughOutages(call);
      } catch (error) {
        if (!isKilnError(error) || NEVER_LAWFUL.includes(error.code)) throw error;
        this.ports.count(`file ${error.code}`);
        await delay(POLL_MS);
      }
    }
  }

  private async readTurn(): Promise<void> {
    const { api, random } = this.ports;
    const { thread } = this.session;
    const { items } = await throughOutages(() => api.listTurns({ params: { thread }, query: {} }));
    const [first, ...more] = items.map(({ turn }) => turn);
    if (first === undefined) return;
    await this.compareTurn(random.pick([first, ...more]));
  }

  private async compareTurn(turn: number): Promise<void> {
    const versions = this.known().ofTurn(turn);
    // Of a run that failed or was cut off it is not known what it has done.
    if (versions.length === 0) return;
    const tar = await throughOutages(() => this.ports.api.getTurnTar({ thread: this.session.thread, turn }));
    const seen = await walkOfTar(tar);
    this.ports.count('turn compared');
    const differs = versions.map((tree) => differences(tree.seen(), seen));
    if (differs.some((lines) => lines.length === 0)) return;
    this.ports.wrong(`the tar of turn ${turn} is another workspace: ${differs.at(-1)?.slice(0, 5).join('; ')}`);
  }

  /** Looks, sleeps, looks again from the store, and closes. */
  private async end(): Promise<void> {
    await this.look();
    await this.sleep();
    const last = await this.look();
    await this.untilSaved(last);
    const { items } = await throughOutages(() =>
      this.ports.api.listRuns({ params: { thread: this.session.thread }, query: { limit: 200 } }),
    );
    this.inOrder(items.toReversed());
    await throughOutages(() => this.session.close({ waitMs: 60_000 }));
    await this.compareTurn(last.turn ?? 0);
  }

  /** Each run is there once, and they were started in the order in which they were sent. */
  private inOrder(views: readonly RunView[]): void {
    const ids = views.map(({ id }) => id);
    if (JSON.stringify(ids) !== JSON.stringify(this.ids)) {
      this.ports.wrong(`its runs are ${ids.join(' ')}, not ${this.ids.join(' ')}`);
    }
    const turns = views.flatMap(({ turn }) => turn ?? []);
    if (turns.some((turn, n) => turn !== n + 1)) this.ports.wrong(`its turns are ${turns.join(' ')}`);
  }
}

const folder = () => ({ kind: 'folder', mode: 0o755, uid: 0, gid: 0, mtime: undefined }) as const;
