/**
 * Templates of one host: frozen guests from which VMs are cloned instead of booted. Made in the background once a guest
 * of that kind has booted cold. Checked in full when the host starts, later only by the stat fingerprints of the files.
 */

import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SingleFlight } from '../../concurrency/single-flight.ts';
import type { TemplateManifest } from '../../contracts/host/template-manifest.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';
import { type GuestKind, resourcesOf } from '../../domain/guest-kind.ts';
import type { TemplateSummary } from '../../domain/pool/pool-status.ts';
import type { CachedImage } from '../../domain/vm.ts';
import type { CapacityLedger } from '../../ports/host.ts';
import type { ImageCache } from '../../ports/images.ts';
import type { TemplateMaker } from '../../ports/vm-driver.ts';
import { type DrivePorts, makeDrives, releaseDrives } from '../disks/drives.ts';
import type { HostLogger } from '../host-logger.ts';
import { buildTemplate, templateSpec, UNFINISHED } from './template-build.ts';
import {
  imageFiles,
  isByChance,
  isOlder,
  lastUse,
  newEntry,
  type TemplateEntry,
  type UsableTemplate,
  usable,
  viewOf,
} from './template-entry.ts';
import { changedLook, readTemplateManifest, verifyTemplate } from './template-files.ts';
import { kindOf, templateKeyHash } from './template-key.ts';

export interface TemplateStoreOptions extends DrivePorts {
  readonly stateDir: string;
  readonly maker: TemplateMaker;
  readonly images: ImageCache;
  readonly ledger: Pick<CapacityLedger, 'reserve' | 'release'>;
  readonly logger: HostLogger;
  /** Ids of templates that VMs of this host were cloned from. Throws where these cannot be determined. */
  readonly inUse: () => Promise<ReadonlySet<string>>;
  readonly settings: TemplateSettings;
  /** From this age on no guest is cloned from a template: limits the age of the state that all clones share, ms. */
  readonly maxAgeMs: number;
  readonly onEvent?: (event: TemplateEvent) => void;
  /** Monotonic ms, for pauses and for how long a found template stays. Default: the monotonic clock. */
  readonly awake?: () => number;
}

export interface TemplateSettings {
  /** `off`: no template is made or used. */
  readonly mode: 'auto' | 'off';
  /** How long a guest may take to boot and warm up before it is frozen, ms. */
  readonly freezeMs: number;
  /** How long a clone may take until its agent answers before its template counts as damaged, ms. */
  readonly cloneMs: number;
  /** How long a template that was found for a clone always stays: until the record of that clone can name it, ms. */
  readonly handedOutMs: number;
  /** Pause after a template could not be made, ms. */
  readonly retryMs: number;
  /** Most templates kept; the one unused for longest is removed first. */
  readonly max: number;
}

export type TemplateEvent = 'made' | 'failed' | 'refused' | 'discarded';

export interface Templates {
  /** @returns the newest usable template of a kind; undefined: boot cold. Ends a template that it finds damaged. */
  find(kind: GuestKind, image: CachedImage): Promise<UsableTemplate | undefined>;
  /** Makes a template in the background, unless a usable one exists or is being made. */
  want(kind: GuestKind): void;
  /** Makes a new template; the existing one serves until then. @throws as the freeze does; NO_CAPACITY */
  refresh(kind: GuestKind): Promise<TemplateManifest>;
  /**
   * Reports a clone that did not come up. A template that was refused, or whose clones were late twice, is not cloned
   * again; its files are removed once no VM needs them.
   */
  reportFailure(templateId: string, failure: KilnError): Promise<void>;
  list(): readonly TemplateSummary[];
  /** @returns the template that clones of a kind are made from now, as known in memory; reads no file */
  newestOf(kind: GuestKind): TemplateManifest | undefined;
  /** Checks all existing templates, in the background. */
  start(): Promise<void>;
  /** Removes superseded templates that no VM needs. @returns ids */
  collect(): Promise<readonly string[]>;
  /** Resolves once no template is being checked or made. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/** @returns the templates below `<stateDir>/templates/`. One process per directory. */
export function createTemplates(options: TemplateStoreOptions): Templates {
  return new TemplateStore(options);
}

class TemplateStore implements Templates {
  private readonly options: TemplateStoreOptions;
  private readonly directory: string;
  private readonly entries = new Map<string, TemplateEntry>();
  private readonly making = new SingleFlight<TemplateManifest>();
  private readonly awake: () => number;
  /** Monotonic ms. */
  private readonly notBefore = new Map<string, number>();
  private readonly over = new AbortController();
  private background: Promise<unknown> = Promise.resolve();

  constructor(options: TemplateStoreOptions) {
    this.options = options;
    this.awake = options.awake ?? (() => performance.now());
    this.directory = join(options.stateDir, 'templates');
  }

  async find(kind: GuestKind, image: CachedImage): Promise<UsableTemplate | undefined> {
    if (this.options.settings.mode === 'off') return undefined;
    const entry = this.newest(kind);
    if (entry?.looks === undefined) return undefined;
    const { templateId } = entry.manifest;
    if (Date.now() - Date.parse(entry.manifest.createdAt) >= this.options.maxAgeMs) {
      this.discard(templateId, 'it is too old');
      return undefined;
    }
    // Set before the first await: a sweep may run at any moment.
    entry.lastHandedOutAt = this.awake();
    const changed = await changedLook(entry.looks);
    if (changed !== undefined) {
      this.discard(templateId, `${changed} has changed`);
      return undefined;
    }
    entry.lastUsedAt = Date.now();
    entry.clones += 1;
    return usable(join(this.directory, templateId), entry.manifest, image);
  }

  want(kind: GuestKind): void {
    const hash = this.hash(kind);
    if (this.options.settings.mode === 'off' || this.over.signal.aborted) return;
    if (this.making.underWay(hash) !== undefined || this.newest(kind) !== undefined) return;
    if (this.awake() < (this.notBefore.get(hash) ?? Number.NEGATIVE_INFINITY)) return;
    this.refresh(kind).catch((error: unknown) => {
      if (this.over.signal.aborted) return;
      this.notBefore.set(hash, this.awake() + this.options.settings.retryMs);
      this.options.logger.warn({ kind, reason: String(error) }, 'a template could not be made; VMs boot cold');
    });
  }

  refresh(kind: GuestKind): Promise<TemplateManifest> {
    const hash = this.hash(kind);
    const underWay = this.making.underWay(hash);
    if (underWay !== undefined) return underWay;
    // One at a time: each uses one core for some seconds.
    const made = this.making.run(hash, () => this.background.then(() => this.make(kind)));
    this.background = made.catch(() => undefined);
    return made;
  }

  private async make(kind: GuestKind): Promise<TemplateManifest> {
    const { options, directory } = this;
    const { ledger, settings, logger } = options;
    const reservation = `template-${this.hash(kind)}`;
    const request = {
      id: reservation,
      ownerWorkflowId: 'template',
      resources: resourcesOf(kind),
      ttlMs: settings.freezeMs,
    };
    if (!(await ledger.reserve(request))) {
      throw new KilnError('NO_CAPACITY', 'The host has no room to boot a guest that is to be frozen now.');
    }
    try {
      this.over.signal.throwIfAborted();
      const image = await options.images.ensure(kind.imageDigest, this.over.signal);
      const { maker, provisioner, workspaces, emptyDisks } = options;
      const ports = { maker, provisioner, workspaces, emptyDisks, directory };
      const { manifest, known } = await buildTemplate(ports, {
        kind,
        image,
        deadlineMs: settings.freezeMs,
        signal: this.over.signal,
      });
      const looks = await verifyTemplate(join(directory, manifest.templateId), manifest, imageFiles(image), { known });
      this.supersede(kind);
      this.entries.set(manifest.templateId, newEntry(manifest, looks));
      options.onEvent?.('made');
      logger.info(
        { templateId: manifest.templateId, image: manifest.imageName, tookMs: manifest.tookMs },
        'template made',
      );
      return manifest;
    } catch (error) {
      options.onEvent?.('failed');
      throw error;
    } finally {
      await ledger.release(reservation);
    }
  }

  async reportFailure(templateId: string, failure: KilnError): Promise<void> {
    const entry = this.entries.get(templateId);
    if (entry === undefined) return;
    if (isByChance(failure) && !entry.blamed) {
      entry.blamed = true;
      const reason = failure.message;
      this.options.logger.warn({ templateId, reason }, 'a clone did not come up; its template has one more try');
      return;
    }
    this.discard(templateId, failure.message);
  }

  private discard(templateId: string, reason: string): void {
    const entry = this.entries.get(templateId);
    if (entry === undefined || entry.superseded) return;
    entry.superseded = true;
    entry.looks = undefined;
    this.options.onEvent?.('discarded');
    this.options.logger.warn(
      { templateId, reason },
      'a template is not used any more; VMs boot cold until there is a new one',
    );
  }

  list(): readonly TemplateSummary[] {
    return [...this.entries.values()].map(viewOf);
  }

  newestOf(kind: GuestKind): TemplateManifest | undefined {
    const entry = this.newest(kind);
    return entry?.looks === undefined ? undefined : entry.manifest;
  }

  async start(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    const names = await readdir(this.directory);
    for (const name of names.filter((each) => each.endsWith(UNFINISHED))) await this.removeUnfinished(name);
    if (this.options.settings.mode === 'off') return;
    const whole = names.filter((each) => !each.endsWith(UNFINISHED)).sort();
    this.background = this.background.then(() => this.checkAll(whole)).catch(() => undefined);
  }

  private async checkAll(names: readonly string[]): Promise<void> {
    for (const templateId of names) {
      if (this.over.signal.aborted) return;
      try {
        await this.check(templateId);
      } catch (error) {
        if (this.over.signal.aborted) return;
        const reason = messageOf(error);
        this.options.onEvent?.('refused');
        this.options.logger.warn({ templateId, reason }, 'a template is refused; a new one is made when it is wanted');
        await this.removeUnused(templateId);
      }
    }
  }

  /** @throws TEMPLATE_CORRUPT, TEMPLATE_MISMATCH, IMAGE_MISSING, IMAGE_CORRUPT */
  private async check(templateId: string): Promise<void> {
    const directory = join(this.directory, templateId);
    const manifest = await readTemplateManifest(directory, templateId);
    const entry = newEntry(manifest, undefined);
    this.entries.set(templateId, entry);
    try {
      const image = await this.options.images.ensure(kindOf(manifest).imageDigest, this.over.signal);
      await this.checkFingerprint(manifest, image, directory);
      entry.looks = await verifyTemplate(directory, manifest, imageFiles(image), { signal: this.over.signal });
      for (const other of this.ofKind(kindOf(manifest)))
        if (other !== entry && isOlder(other, entry)) other.superseded = true;
    } catch (error) {
      this.entries.delete(templateId);
      throw error;
    }
  }

  /** Compares with what a clone would be restored with now: makes its disks as for a VM, and removes them. */
  private async checkFingerprint(manifest: TemplateManifest, image: CachedImage, directory: string): Promise<void> {
    const place = `${manifest.templateId}-probe${UNFINISHED}`;
    const disksOf = { directory: join(this.directory, place), vmId: 'probe' };
    const drives = await makeDrives(this.options, {
      image,
      ...disksOf,
      resources: kindOf(manifest),
      rootBase: usable(directory, manifest, image).root,
    });
    const now = await this.options.maker.fingerprint(templateSpec(kindOf(manifest), image, drives));
    await releaseDrives(this.options, { ...disksOf, drives });
    await this.remove(place);
    if (now === manifest.fingerprint) return;
    throw new KilnError(
      'TEMPLATE_MISMATCH',
      `Template ${manifest.templateId} was frozen under another VMM, machine or size.`,
    );
  }

  async collect(): Promise<readonly string[]> {
    const excess = this.excess();
    const gone = [...this.entries].filter(([id, entry]) => entry.superseded || excess.has(id)).map(([id]) => id);
    if (gone.length === 0) return [];
    const inUse = await this.options.inUse();
    const removed: string[] = [];
    for (const templateId of gone.filter((id) => !inUse.has(id))) {
      // Checked at the last moment: the records were read earlier, and none of them names a template found since then.
      if (this.isLent(templateId)) continue;
      this.entries.delete(templateId);
      await this.remove(templateId);
      removed.push(templateId);
    }
    return removed;
  }

  /** Whether it was just found for a clone: no record names it until the disks of that clone are made. */
  private isLent(templateId: string): boolean {
    const lastHandedOutAt = this.entries.get(templateId)?.lastHandedOutAt;
    return lastHandedOutAt !== undefined && this.awake() - lastHandedOutAt < this.options.settings.handedOutMs;
  }

  private excess(): Set<string> {
    const byUse = [...this.entries]
      .filter(([, entry]) => !entry.superseded)
      .sort(([, a], [, b]) => lastUse(b) - lastUse(a));
    return new Set(byUse.slice(this.options.settings.max).map(([id]) => id));
  }

  async settled(): Promise<void> {
    for (let seen: unknown; seen !== this.background; ) {
      seen = this.background;
      await seen;
    }
  }

  async stop(): Promise<void> {
    this.over.abort(new KilnError('CANCELLED', 'This host is shutting down.'));
    await this.settled();
  }

  private hash(kind: GuestKind): string {
    return templateKeyHash(kind, this.options.provisioner.kind);
  }

  private ofKind(kind: GuestKind): TemplateEntry[] {
    const prefix = `${this.hash(kind)}-`;
    return [...this.entries.values()].filter(({ manifest }) => manifest.templateId.startsWith(prefix));
  }

  private newest(kind: GuestKind): TemplateEntry | undefined {
    return this.ofKind(kind)
      .filter(({ superseded }) => !superseded)
      .sort((a, b) => (isOlder(a, b) ? 1 : -1))[0];
  }

  private supersede(kind: GuestKind): void {
    for (const entry of this.ofKind(kind)) entry.superseded = true;
  }

  /** VMs cloned from a refused template may still run. */
  private async removeUnused(templateId: string): Promise<void> {
    const inUse = await this.options.inUse().catch(() => undefined);
    if (inUse !== undefined && !inUse.has(templateId)) await this.remove(templateId);
  }

  private async removeUnfinished(folder: string): Promise<void> {
    const name = folder.slice(0, -UNFINISHED.length);
    try {
      await this.options.maker.clearFreeze({ name, directory: join(this.directory, folder) });
      await this.remove(folder);
    } catch (error) {
      // It stays and is tried again at the next start: nothing else depends on its removal.
      this.options.logger.warn(
        { name, reason: String(error) },
        'a template that was not finished could not be removed',
      );
    }
  }

  private remove(name: string): Promise<void> {
    return rm(join(this.directory, name), { recursive: true, force: true });
  }
}
