/** A host over QEMU and the image that set-up built; it can be ended and started again on the same state. */

import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSetupRecord } from '../../../config/setup-record.ts';
import { defined } from '../../../domain/defined.ts';
import type { VmStart } from '../../../domain/vm.ts';
import type { Host } from '../../../host/host.ts';
import type { HostSettingOverrides } from '../../../host/host-settings.ts';
import type { AgentChannel } from '../../../ports/guest-agent.ts';
import type { VmDriver } from '../../../ports/vm-driver.ts';
import { createImageCache } from '../../../rootfs/image/image-cache.ts';
import { createQcow2OverlayProvisioner } from '../../../rootfs/provisioners/qcow2-overlay.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createQemuDriver } from '../../../vmm/qemu/qemu-driver.ts';
import { freshObjectStore } from '../servers/object-store.ts';
import { silentLogger } from '../workers/silent-logger.ts';
import { createFakeHost, type FakeHostPlaces, ownerOf, placesBelow } from './fake-host.ts';
import { whatIsLeft } from './nothing-left.ts';
import { silentLog, testTscRate, vmUsers } from './vm-fixtures.ts';

const BOOT_MS = 60_000;
/** A small workspace: the image's own has gigabytes, and every digest and every check would read all of it. */
export const GUEST_RESOURCES = { vcpus: 1, memMib: 256, diskMib: 256 };

export class GuestHost {
  readonly places: FakeHostPlaces;
  readonly store: ObjectStore;
  readonly driver: VmDriver;
  readonly image = readSetupRecord().image;
  /** What the host has warned of: a test that fails tells it. */
  readonly warnings: string[] = [];
  private node: Host | undefined;
  private readonly settings: HostSettingOverrides;

  private constructor(places: FakeHostPlaces, store: ObjectStore, settings: HostSettingOverrides) {
    this.places = places;
    this.store = store;
    this.settings = settings;
    this.driver = createQemuDriver({
      ...places,
      log: silentLog,
      tscKhz: testTscRate,
      accel: 'tcg',
      ...vmUsers(places.stateDir),
    });
  }

  /** @param store closed with the host; default: a bucket of the test run's server */
  static async start(settings: HostSettingOverrides = {}, store?: ObjectStore): Promise<GuestHost> {
    const root = await mkdtemp(join(tmpdir(), 'kg-'));
    // The users of VMMs must be able to reach their sockets below it.
    await chmod(root, 0o711);
    const host = new GuestHost(placesBelow(root), store ?? (await freshObjectStore()), settings);
    await host.up();
    return host;
  }

  get host(): Host {
    if (this.node === undefined) throw new Error('the host is down');
    return this.node;
  }

  get templatesDir(): string {
    return join(this.places.stateDir, 'templates');
  }

  get imagesDir(): string {
    return join(this.places.stateDir, 'images');
  }

  async up(): Promise<void> {
    const images = createImageCache({
      imagesDir: this.imagesDir,
      localBuildsDir: join(readSetupRecord().cacheDir, 'images'),
      store: this.store,
    });
    this.node = await createFakeHost(this.places, {
      store: this.store,
      owners: { lookup: async () => 'open' },
      driver: this.driver,
      provisioner: createQcow2OverlayProvisioner(),
      images,
      collectImages: images.collect,
      resolveImage: async () => this.image.digest,
      capacity: { vcpus: 64, memMib: 16_384 },
      logger: {
        ...silentLogger,
        warn: (details, message) => this.warnings.push(`${message} ${JSON.stringify(details)}`),
      },
      settings: { sweep: { everyMs: 3_600_000, graceMs: 0 }, ...this.settings },
    });
    await this.node.start();
    await this.node.templates?.settled();
  }

  async down(): Promise<void> {
    await this.node?.detach();
    this.node = undefined;
  }

  /** Provisions and boots a VM of the image. */
  async boot(
    vmId: string,
    more: { cold?: boolean; projectId?: string } = {},
  ): Promise<{ pid: number; start: VmStart; agent: AgentChannel; bootMs: number }> {
    const { vms } = this.host;
    const { cold = false, projectId } = more;
    const owner = { ...ownerOf(vmId), ...defined({ projectId }) };
    await vms.provision({ vmId, owner, imageDigest: this.image.digest, resources: GUEST_RESOURCES, cold });
    const booted = await vms.boot({ vmId, hostname: vmId, deadlineMs: BOOT_MS });
    return { ...booted, agent: await vms.agent(vmId) };
  }

  async release(...vmIds: readonly string[]): Promise<void> {
    for (const vmId of vmIds) await this.host.vms.release(vmId, { graceMs: 0 });
  }

  /** Stops the pool first: it would make new VMs while its VMs are removed. */
  private async emptyPool(): Promise<void> {
    const { pool } = this.host;
    await pool.stop();
    while (await pool.yieldToBoots());
  }

  /** Ends everything. @returns what is left, apart from templates and images: they are removed with the host's state */
  async close(): Promise<string[]> {
    if (this.node === undefined) await this.up();
    await this.emptyPool();
    await this.release(...(await this.driver.list()));
    await this.down();
    this.store.close();
    const left = await whatIsLeft(this.places);
    await rm(this.places.root, { recursive: true, force: true });
    return left;
  }
}
