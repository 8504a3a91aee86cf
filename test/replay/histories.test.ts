import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { Worker, type WorkflowBundle } from '@temporalio/worker';
import { beforeAll, describe, expect, it } from 'vitest';
import { recordedEvents } from '../../client/temporal/archive/recorded-events.ts';
import { isFinalState } from '../../domain/lifecycle/lifecycle.ts';
import { project as projectLifecycle } from '../../domain/lifecycle/projector.ts';
import { SESSION_LIFECYCLE } from '../../domain/session/tiers.ts';
import { project, type RecordedEvent } from '../../domain/workload/projector.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import { bundleWorkflows } from '../../temporal/workflow-bundle.ts';

const FOLDER = fileURLToPath(new URL('../histories', import.meta.url));

/** Runs of the maintenance; they have no stages. */
const maintenance = readdirSync(FOLDER).filter((file) => file.startsWith('maintenance-'));

const isSession = (file: string) => file.startsWith('session-');
const owned = readdirSync(FOLDER).filter((file) => !maintenance.includes(file));
const workloads = chainsOf(owned.filter((file) => !isSession(file)));
const sessions = chainsOf(owned.filter(isSession));

/** @returns the executions of each name in their order: `name.json`, `name.1.json`, … */
function chainsOf(files: readonly string[]): ReadonlyMap<string, string[]> {
  const chains = new Map<string, string[]>();
  for (const file of files) {
    const name = file.replace(/(\.\d+)?\.json$/, '');
    chains.set(
      name,
      [...(chains.get(name) ?? []), file].sort((a, b) => executionOf(a) - executionOf(b)),
    );
  }
  return chains;
}

function executionOf(file: string): number {
  return Number(/\.(\d+)\.json$/.exec(file)?.[1] ?? 0);
}

/** @returns the id of the workflow that `session-<project>-<thread>-<n>` is the history of */
function sessionIdOf(name: string): string {
  return name.replace(/^session-([^-]+)-(.+)-(\d+)$/, 'session/$1/$2/$3');
}

function textOf(file: string): string {
  return readFileSync(join(FOLDER, file), 'utf8');
}

function tiersOf(files: readonly string[]) {
  return recordedEvents(
    files.map((file) => historyFromJSON(JSON.parse(textOf(file)))),
    'KilnTier',
  );
}

function eventsOf(files: readonly string[]): RecordedEvent[] {
  return recordedEvents(files.map((file) => historyFromJSON(JSON.parse(textOf(file)))));
}

describe('recorded histories', () => {
  let workflowBundle: WorkflowBundle;
  beforeAll(async () => {
    workflowBundle = await bundleWorkflows();
  });

  it('cover every way to end', () => {
    const ends = new Set([...workloads.values()].map((files) => project(eventsOf(files)).stage));
    expect([...ends].sort()).toEqual(expect.arrayContaining(['failed', 'stopped']));
    expect([...workloads.keys()]).toEqual(
      expect.arrayContaining(['plain-100', 'lost', 'cancelled', 'terminated', 'continued', 'vm-killed']),
    );
  });

  it.each([...workloads])('%s: replays, and is lawful', async (name, files) => {
    for (const file of files) {
      await Worker.runReplayHistory({ workflowBundle }, JSON.parse(textOf(file)), `workload/${name}`);
    }
    const { stage } = project(eventsOf(files));
    expect(name === 'terminated' || isFinal(stage)).toBe(true);
  });

  it.each(maintenance)('%s: replays', async (file) => {
    await Worker.runReplayHistory({ workflowBundle }, JSON.parse(textOf(file)), `maintenance/${file}`);
  });

  it.each([...sessions])('%s: replays, and its tiers are lawful', async (name, files) => {
    for (const file of files) {
      await Worker.runReplayHistory({ workflowBundle }, JSON.parse(textOf(file)), sessionIdOf(name));
    }
    const { state } = projectLifecycle(SESSION_LIFECYCLE, tiersOf(files));
    expect(name.includes('terminated') || isFinalState(SESSION_LIFECYCLE, state)).toBe(true);
  });

  it('cover the ways of sessions', () => {
    const names = ['dies-warm', 'dies-again', 'expiring', 'long', 'rests-second', 'terminated'];
    expect([...sessions.keys()]).toEqual(expect.arrayContaining(names.map((name) => `session-default-${name}-1`)));
    expect(sessions.get('session-default-long-1')?.length).toBeGreaterThan(1);
  });

  it.each([...workloads])('%s: no single change of its stages passes', (_name, files) => {
    const events = eventsOf(files);
    for (const [index, event] of events.entries()) {
      if (event.kind !== 'moved') continue;
      const without = events.filter((_, at) => at !== index);
      const twice = events.toSpliced(index, 0, event);
      const other = events.with(index, { ...event, state: event.state === 'deploy' ? 'validate' : 'deploy' });
      for (const tampered of [without, twice, other]) {
        // The close of a cancelled or terminated execution lists no moves to compare its events with.
        if (tellsNothing(tampered) && isLawful(tampered)) continue;
        expect(() => project(tampered)).toThrow(expect.objectContaining({ code: 'INVALID_TRANSITION' }));
      }
    }
  });

  it('a history that another workflow would have made does not replay', async () => {
    const text = textOf('plain-100.json').replaceAll('"checkHealth"', '"checkWealth"');
    const replay = Worker.runReplayHistory({ workflowBundle }, JSON.parse(text), 'workload/plain-100');
    await expect(replay).rejects.toThrow(/[Nn]ondeterminism|[Dd]eterminism/);
  });
});

function tellsNothing(events: readonly RecordedEvent[]): boolean {
  const close = events.at(-1);
  return close?.kind === 'closed' && close.told === undefined;
}

function isLawful(events: readonly RecordedEvent[]): boolean {
  try {
    project(events);
    return true;
  } catch {
    return false;
  }
}
