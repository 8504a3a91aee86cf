/** Where services come from, and what their builds make. Types only; see the rules in `ports/README.md`. */

import type { Readable } from 'node:stream';
import type { ServiceManifest, WorkloadRequest } from '../domain/workload/workload.ts';

/** Where the code of a service is. */
export type ServiceCode = Pick<WorkloadRequest, 'servicePath' | 'source' | 'projectId'>;

/** Service folders: below the project root of this host, or in uploaded sources. */
export interface ServiceSources {
  /**
   * Reads and checks a service folder.
   * @param signal cancels it; the work has ended when this rejects
   * @throws SERVICE_NOT_FOUND, MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED, INSPECTION_LIMIT
   */
  inspect(code: ServiceCode, signal?: AbortSignal): Promise<ServiceManifest>;
  /**
   * Packs the folder (no node_modules, no .git) in stable order.
   * @returns path of a temporary tar and its digest
   * @throws as `inspect`
   */
  pack(
    code: ServiceCode,
    signal?: AbortSignal,
  ): Promise<{ tarPath: string; sha256: string; bytes: number; lockSha256?: string }>;
}

/** Package registries of this machine's client configuration, as a builder VM needs them. Never holds a token. */
export interface RegistrySettings {
  /** `host:port` entries that builds may reach. */
  readonly endpoints: readonly string[];
  /** Text of an .npmrc without credentials. */
  readonly npmrc: string;
  /** PEM bundle of extra CAs that the registries need; absent where the system's own CAs are enough. */
  readonly caBundlePem?: string;
}

/** Package indexes of this machine's pip, as a builder VM of a Python service needs them. Never holds a password. */
export interface PipSettings {
  /** `host:port` entries that builds may reach. */
  readonly endpoints: readonly string[];
  /** Text of a pip.conf without credentials. */
  readonly pipConf: string;
  /** Whether packages come from pip's default index, because no other is configured. */
  readonly ownIndex: boolean;
  /** PEM bundle of extra CAs that pip must trust. */
  readonly caBundlePem?: string;
}

export interface BuildOutput {
  readonly sha256: string;
  readonly bytes: number;
}

export interface BuildStore {
  find(cacheKey: string): Promise<BuildOutput | undefined>;
  /** Stores a tar by its digest, and under the key where there is one. */
  save(tarPath: string, cacheKey: string | undefined): Promise<BuildOutput>;
  /** The tar, from this host's cache or the store, checked while it is read. @throws IMAGE_CORRUPT, STORE_UNAVAILABLE */
  open(output: BuildOutput): Promise<Readable>;
}
