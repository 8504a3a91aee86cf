/** What is known of the versions of one workspace, and which of them a run may find. Pure. */
import { differences, type SeenTree, type Tree } from './tree.ts';

/** Changes a tree in place. */
type Change = (tree: Tree) => void;

interface Version {
  readonly turn: number;
  readonly tree: Tree;
}

/** What a run tells about its workspace. */
export interface Told {
  readonly turn: number;
  readonly lost?: { readonly restoredTurn?: number | undefined } | undefined;
}

export class Versions {
  private readonly versions: Version[];
  /** Index of the newest that is known to be in the store; none: -1. */
  private saved = -1;
  /** Whether something may have taken the VM since it was last looked into. */
  private mayLose = false;
  /** Whether a run has failed with its VM since the last that was looked into: then the next one is told of a loss. */
  private mustTell = false;
  /** What was done beside the runs to a VM that may have gone with it. */
  private unsure: Change[] = [];
  private readonly wrong: (line: string) => void;

  /** @param empty the workspace before anything was done in it */
  constructor(empty: Tree, wrong: (line: string) => void) {
    this.versions = [{ turn: 0, tree: empty }];
    this.wrong = wrong;
  }

  get now(): Tree {
    return this.last().tree;
  }

  get turn(): number {
    return this.last().turn;
  }

  get maySay(): { readonly lost: boolean } {
    return { lost: this.mayLose };
  }

  mayBeLost(): void {
    this.mayLose = true;
  }

  runFailed(): void {
    this.mustTell = true;
  }

  add(turn: number, tree: Tree): void {
    this.versions.push({ turn, tree });
  }

  /** Something was written beside the runs: where a VM may have gone, it is known only later what it was written to. */
  write(change: Change): void {
    if (this.mayLose) this.unsure.push(change);
    else this.add(this.turn, changed(this.now, [change]));
  }

  /** The workspace as the turn left it is in the store. */
  isSaved(turn: number): void {
    const index = this.versions.findIndex((version) => version.turn === turn);
    if (index > this.saved) this.saved = index;
  }

  /** The present version is in the store. */
  isNowSaved(): void {
    this.saved = this.versions.length - 1;
  }

  /**
   * Compares what a run has found with what it may find.
   * @returns a tree that is what it has found; undefined where that is none that it may find
   */
  found(told: Told, seen: SeenTree): Tree | undefined {
    const candidates = this.candidates(told).flatMap(({ tree, turn }) =>
      // Where no loss is told, everything that was answered is there.
      (told.lost === undefined ? [this.unsure] : subsetsOf(this.unsure)).map((changes) => ({
        turn,
        isNew: changes.length > 0,
        tree: changes.length === 0 ? tree : changed(tree, changes),
      })),
    );
    this.unsure = [];
    this.judgeWords(told, seen);
    const judged = candidates.map((one) => ({ ...one, lines: differences(one.tree.seen(), seen) }));
    const [nearest] = judged.sort((a, b) => a.lines.length - b.lines.length);
    if (nearest?.lines.length === 0) {
      nearest.tree.learnTimes(seen);
      // A save may have it, before the run that has found it.
      if (nearest.isNew) this.add(nearest.turn, nearest.tree);
      return nearest.tree;
    }
    const lines = nearest?.lines.slice(0, 5).join('; ') ?? 'there is no such version';
    const others = this.versions.filter(({ tree }) => differences(tree.seen(), seen).length === 0);
    const is = others.length === 0 ? 'of no turn' : `of turn ${others.map(({ turn }) => turn).join(', ')}`;
    this.wrong(`turn ${told.turn} (${JSON.stringify(told.lost ?? 'nothing lost')}) found a workspace ${is}: ${lines}`);
    return undefined;
  }

  /** Whether a loss is told where there is one, and only there. */
  private judgeWords({ turn, lost }: Told, seen: SeenTree): void {
    const last = this.last();
    if (lost === undefined && this.mustTell) this.wrong(`turn ${turn} is not told of the loss of the run before it`);
    const isAll = lost?.restoredTurn === last.turn && differences(last.tree.seen(), seen).length === 0;
    if (isAll && !this.mustTell) this.wrong(`turn ${turn} tells of a loss, and nothing is lost`);
    this.mustTell = false;
  }

  /** A loss was told, or there was none: what was at stake is settled. */
  settled(): void {
    this.mayLose = false;
  }

  /** @returns the versions of a turn that may be in the store */
  ofTurn(turn: number): readonly Tree[] {
    return this.versions.filter((version) => version.turn === turn).map(({ tree }) => tree);
  }

  private candidates({ turn, lost }: Told): readonly Version[] {
    if (lost === undefined) return [this.last()];
    if (!this.mayLose) this.wrong(`turn ${turn} tells of a loss that nothing has caused: ${JSON.stringify(lost)}`);
    const restored = lost.restoredTurn ?? 0;
    const found = this.versions.filter((version, index) => version.turn === restored && index >= this.saved);
    if (found.length === 0) this.wrong(`turn ${turn}: what was saved is lost, only turn ${restored} is there`);
    return found;
  }

  private last(): Version {
    const last = this.versions.at(-1);
    if (last === undefined) throw new Error('no version');
    return last;
  }
}

function changed(tree: Tree, changes: readonly Change[]): Tree {
  const copy = tree.copy();
  for (const change of changes) change(copy);
  return copy;
}

/** @returns every choice of some of them, in their order */
function subsetsOf<T>([first, ...rest]: readonly T[]): T[][] {
  if (first === undefined) return [[]];
  const without = subsetsOf(rest);
  return [...without, ...without.map((some) => [first, ...some])];
}
