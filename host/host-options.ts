/** What a host is made with. */

import type { HostCapacity } from '../domain/capacity/host-entry.ts';
import type { RootfsProvisioner } from '../ports/disks.ts';
import type { ImageCache } from '../ports/images.ts';
import type { VmDriver } from '../ports/vm-driver.ts';
import type { HostImages } from '../rootfs/image/image-cache.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { EgressProxy } from './egress/dialer.ts';
import type { HostLogger } from './host-logger.ts';
import type { HostSettingOverrides } from './host-settings.ts';
import type { PoolMeans } from './pool/pool-ports.ts';
import type { TellSleep } from './runs/drain-sleep.ts';
import type { TellVmGone } from './runs/vm-watch.ts';
import type { OwnerLookup } from './upkeep/sweep.ts';

export interface HostOptions {
  readonly hostId: string;
  /** `<home>/host`, absolute. */
  readonly stateDir: string;
  /** The driver's directory of sockets. */
  readonly runtimeDir: string;
  readonly projectRoot: string;
  readonly driver: VmDriver;
  readonly provisioner: RootfsProvisioner;
  readonly images: ImageCache;
  /** Removes images that nobody needs (`HostImages`); absent: all are kept. */
  readonly collectImages?: HostImages['collect'];
  /** Digests of the images on this host; asked before each registration. */
  readonly cachedImages: () => Promise<readonly string[]>;
  readonly store: ObjectStore;
  readonly owners: OwnerLookup;
  /** All that guests and their VMMs may use. */
  readonly capacity: HostCapacity;
  /** Tells the owner of a VM that waits for its next run that the VM has ended; default: nobody is told. */
  readonly tellVmGone?: TellVmGone;
  /** Asks the owner of a session's VM to give it up, since this host drains; default: nobody is asked. */
  readonly tellSleep?: TellSleep;
  readonly token: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly egressProxy?: EgressProxy;
  /** Exact `name:port` entries that may lead to private addresses; the driver is made with their ports. Default: none. */
  readonly privateNames?: readonly string[];
  /** Addresses of a name that a guest asks for; default: the resolver of this machine. */
  readonly resolveName?: (name: string) => Promise<readonly string[]>;
  /** @returns the digest that an image reference points to now; default: the store's */
  readonly resolveImage?: (reference: string) => Promise<string>;
  /** What the driver can do for a pool beyond a cold boot. */
  readonly poolMeans?: PoolMeans;
  readonly logger: HostLogger;
  readonly settings?: HostSettingOverrides;
}
