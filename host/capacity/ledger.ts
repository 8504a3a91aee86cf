/** Durable reservations of one host's capacity: one file each, so that they outlive the worker. */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { createChanges } from '../../concurrency/changes.ts';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import type { HostCapacity } from '../../domain/capacity/host-entry.ts';
import { KilnError } from '../../domain/failures.ts';
import { sameResources } from '../../domain/workload/workload.ts';
import { readStateFile, removeInterrupted, removeStateFile, writeStateFile } from '../../linux/state-file.ts';
import type { CapacityLedger } from '../../ports/host.ts';
import { ReservationLine } from './reservation-line.ts';

const RESERVATION_ID = /^[a-z0-9][a-z0-9-]{0,63}$/;

const reservationSchema = z.strictObject({
  id: z.string().regex(RESERVATION_ID),
  ownerWorkflowId: z.string().min(1).max(1024),
  /** A VM at rest has no vCPU. */
  resources: z.strictObject({ vcpus: z.number().nonnegative(), memMib: z.number().positive() }),
  atRest: z.literal(true).exactOptional(),
  expiresAt: z.iso.datetime(),
  createdAt: z.iso.datetime(),
});

type ReserveRequest = Parameters<CapacityLedger['reserve']>[0];

export type Reservation = z.infer<typeof reservationSchema>;

export interface CapacityLedgerOptions {
  readonly stateDir: string;
  /** All that may be reserved. */
  readonly capacity: HostCapacity;
  /** What a VM costs beyond its guest's memory: the VMM itself and its translation buffer, MiB. */
  readonly vmOverheadMib: number;
  /**
   * Looks once at all VMs. The answer tells whether one of them uses a reservation, which then never expires. Fails where
   * they cannot be seen.
   */
  readonly lookAtVms: () => Promise<(reservation: Reservation) => boolean>;
  /** Whether the machine really has memory for one more VM, whatever is reserved; default: always. */
  readonly hasMemory?: () => boolean;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /** Monotonic ms, without the time in which the machine sleeps. */
  readonly awake?: () => number;
}

export interface HostCapacityLedger extends CapacityLedger {
  list(): Promise<readonly Reservation[]>;
  /** Frees reservations that have expired and have no VM. @returns their ids */
  prune(): Promise<readonly string[]>;
}

/** @returns the ledger over `<stateDir>/reservations/`. One process per directory. */
export function createCapacityLedger(options: CapacityLedgerOptions): HostCapacityLedger {
  return new FileLedger(options);
}

class FileLedger implements HostCapacityLedger {
  private readonly directory: string;
  private readonly lock = createKeyedLock();
  private readonly options: CapacityLedgerOptions;
  private readonly now: () => number;
  private readonly awake: () => number;
  private known: Map<string, Reservation> | undefined;
  /** Expiry of each, monotonic ms: the owner that renews it may have slept as long as this machine. */
  private readonly deadlines = new Map<string, number>();
  private readonly line: ReservationLine;
  private readonly changes = createChanges();

  constructor(options: CapacityLedgerOptions) {
    this.options = options;
    this.now = options.now ?? Date.now;
    this.awake = options.awake ?? (() => performance.now());
    this.directory = join(options.stateDir, 'reservations');
    this.line = new ReservationLine(this.awake);
  }

  reserve(request: ReserveRequest): Promise<boolean> {
    const path = this.path(request.id);
    return this.serialised(async (all) => {
      const found = all.get(request.id);
      if (found !== undefined && found.ownerWorkflowId !== request.ownerWorkflowId) {
        throw new KilnError('CONFLICT', `The reservation ${request.id} belongs to ${found.ownerWorkflowId}.`);
      }
      if (found === undefined || !isSameSize(found, request)) {
        // To look which VMs are there takes the longer the more of them rest: only where their room is needed.
        if (!this.fits(all, request)) await this.pruneExpired(all);
        if (!this.fits(all, request)) {
          this.assertPossible(all, request);
          if (request.waitsMs !== undefined) this.line.keep(request.id, this.whole(request), request.waitsMs);
          return false;
        }
        if (found === undefined && this.options.hasMemory?.() === false) return false;
      }
      this.line.leave(request.id);
      const reservation: Reservation = {
        id: request.id,
        ownerWorkflowId: request.ownerWorkflowId,
        resources: { vcpus: request.resources.vcpus, memMib: request.resources.memMib },
        ...(request.atRest === true && { atRest: true }),
        expiresAt: new Date(this.now() + request.ttlMs).toISOString(),
        createdAt: found?.createdAt ?? new Date(this.now()).toISOString(),
      };
      await writeStateFile(path, reservation);
      all.set(reservation.id, reservation);
      this.deadlines.set(reservation.id, this.awake() + request.ttlMs);
      if (found !== undefined && isWithin(this.whole(request), this.whole(found))) this.changes.tell(FREED);
      return true;
    });
  }

  ahead(id: string | undefined): number {
    return this.line.ahead(id).size;
  }

  freed(signal: AbortSignal): Promise<void> {
    return this.changes.next(FREED, signal);
  }

  release(id: string): Promise<void> {
    const path = this.path(id);
    return this.serialised(async (all) => {
      await removeStateFile(path);
      all.delete(id);
      this.deadlines.delete(id);
      this.line.leave(id);
      this.changes.tell(FREED);
    });
  }

  /** In guests: the largest possible guest, and the largest that fits now. */
  totals(of?: string): Promise<{ capacity: HostCapacity; free: HostCapacity }> {
    return this.serialised(async (all) => {
      const { capacity, vmOverheadMib } = this.options;
      const used = sum([...this.held(all, undefined), ...this.setAside(all, of)]);
      const forGuest = (memMib: number) => Math.max(0, memMib - vmOverheadMib);
      return {
        capacity: { vcpus: capacity.vcpus, memMib: forGuest(capacity.memMib) },
        free: {
          vcpus: Math.max(0, capacity.vcpus - used.vcpus),
          memMib: forGuest(capacity.memMib - used.memMib),
        },
      };
    });
  }

  list(): Promise<readonly Reservation[]> {
    return this.serialised(async (all) => [...all.values()]);
  }

  prune(): Promise<readonly string[]> {
    return this.serialised((all) => this.pruneExpired(all));
  }

  private async pruneExpired(all: Map<string, Reservation>): Promise<string[]> {
    const freed: string[] = [];
    const lapsed = [...all.values()].filter(({ id }) => (this.deadlines.get(id) ?? 0) <= this.awake());
    const hasVm = lapsed.length === 0 ? undefined : await this.options.lookAtVms();
    for (const reservation of lapsed) {
      if (hasVm?.(reservation)) continue;
      await removeStateFile(this.path(reservation.id));
      all.delete(reservation.id);
      this.deadlines.delete(reservation.id);
      freed.push(reservation.id);
    }
    if (freed.length > 0) this.changes.tell(FREED);
    return freed;
  }

  private fits(all: Map<string, Reservation>, need: Pick<ReserveRequest, 'id' | 'resources' | 'atRest'>): boolean {
    const found = all.get(need.id);
    const whole = this.whole(need);
    // Who gives back waits for nobody.
    if (found !== undefined && isWithin(whole, this.whole(found))) return true;
    const together = sum([...this.held(all, need.id), ...this.setAside(all, need.id), whole]);
    return isWithin(together, this.options.capacity);
  }

  /** What those ahead of a reservation will need beyond what they hold. */
  private setAside(all: Map<string, Reservation>, id: string | undefined): HostCapacity[] {
    return [...this.line.ahead(id)].map(([other, need]) => {
      const found = all.get(other);
      const held = found === undefined ? NOTHING : this.whole(found);
      return { vcpus: Math.max(0, need.vcpus - held.vcpus), memMib: Math.max(0, need.memMib - held.memMib) };
    });
  }

  /** Rejects a request that can never fit beside a reservation that stays: it would wait without result. */
  private assertPossible(all: Map<string, Reservation>, { resources, beside }: ReserveRequest): void {
    const held = beside === undefined ? undefined : all.get(beside)?.resources;
    if (held === undefined) return;
    const { capacity, vmOverheadMib } = this.options;
    const vcpus = held.vcpus + resources.vcpus;
    const memMib = held.memMib + resources.memMib + 2 * vmOverheadMib;
    if (vcpus <= capacity.vcpus && memMib <= capacity.memMib) return;
    throw new KilnError(
      'NO_CAPACITY',
      `${resources.vcpus} vCPU and ${resources.memMib} MiB can never be had here beside the ${held.vcpus} vCPU and ${held.memMib} MiB already held: with what the VMMs need that is ${memMib} MiB, and this host has ${capacity.memMib}.`,
    );
  }

  private held(all: Map<string, Reservation>, except: string | undefined): HostCapacity[] {
    return [...all.values()].filter(({ id }) => id !== except).map((reservation) => this.whole(reservation));
  }

  /** Guest and VMM together. */
  private whole({ resources, atRest }: Size): HostCapacity {
    const memMib = resources.memMib + (atRest === true ? 0 : this.options.vmOverheadMib);
    return { vcpus: resources.vcpus, memMib };
  }

  private path(id: string): string {
    if (!RESERVATION_ID.test(id)) throw new KilnError('SPEC_INVALID', `"${id.slice(0, 64)}" is no reservation id.`);
    return join(this.directory, `${id}.json`);
  }

  /** Two reservations must not both use the same free capacity. */
  private serialised<T>(work: (all: Map<string, Reservation>) => Promise<T>): Promise<T> {
    return this.lock.run('ledger', async () => {
      this.known ??= await this.load();
      return work(this.known);
    });
  }

  private async load(): Promise<Map<string, Reservation>> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    await removeInterrupted(this.directory);
    const all = new Map<string, Reservation>();
    for (const file of await readdir(this.directory)) {
      if (!file.endsWith('.json')) continue;
      const reservation = await readStateFile(join(this.directory, file), reservationSchema);
      if (reservation === undefined) continue;
      all.set(reservation.id, reservation);
      // For a reservation of an earlier process only the wall clock is known, which may have been set back since.
      const { expiresAt, createdAt } = reservation;
      const leftMs = Math.min(Date.parse(expiresAt) - this.now(), Date.parse(expiresAt) - Date.parse(createdAt));
      this.deadlines.set(reservation.id, this.awake() + leftMs);
    }
    return all;
  }
}

const FREED = 'freed';
const NOTHING: HostCapacity = { vcpus: 0, memMib: 0 };

function sum(sizes: readonly HostCapacity[]): HostCapacity {
  return sizes.reduce((a, b) => ({ vcpus: a.vcpus + b.vcpus, memMib: a.memMib + b.memMib }), NOTHING);
}

function isWithin(size: HostCapacity, limit: HostCapacity): boolean {
  return size.vcpus <= limit.vcpus && size.memMib <= limit.memMib;
}

type Size = Pick<ReserveRequest, 'resources' | 'atRest'>;

function isSameSize(a: Size, b: Size): boolean {
  return sameResources(a.resources, b.resources) && (a.atRest === true) === (b.atRest === true);
}
