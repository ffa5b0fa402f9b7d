// A payment channel's bytes and calls in JavaScript, written from docs/channels.md alone: locks and lists, EIP-712 digests,
// snapshots that merge per half, and the contract by viem.
import { concat, encodeAbiParameters, hashDomain, hashTypedData, keccak256, numberToHex, recoverTypedDataAddress, sha256 } from 'viem';

export const ZERO = `0x${'00'.repeat(32)}`;
/** The half before the first. */
export const ZERO_HALF = { version: 0n, paid: 0n, locks: ZERO };

const EIP712 = {
  Snapshot: [
    ['bytes32', 'channelId'], ['uint64', 'versionA'], ['uint112', 'paidA'], ['bytes32', 'locksA'],
    ['uint64', 'versionB'], ['uint112', 'paidB'], ['bytes32', 'locksB'],
  ],
  Coop: [['bytes32', 'channelId'], ['uint32', 'epoch'], ['uint112', 'payA'], ['uint112', 'payB'], ['uint64', 'validUntil']],
  Close: [['bytes32', 'channelId'], ['uint64', 'validUntil']],
  EIP712Domain: [['string', 'name'], ['string', 'version'], ['uint256', 'chainId'], ['address', 'verifyingContract']],
};
const types = Object.fromEntries(
  Object.entries(EIP712).map(([name, fields]) => [name, fields.map(([type, field]) => ({ type, name: field }))]),
);
const PARAMS = [
  ['address', 'signerA'], ['address', 'payoutA'], ['address', 'signerB'], ['address', 'payoutB'], ['address', 'token'],
  ['uint32', 'window'], ['uint64', 'salt'],
];

/** 56 bytes: SHA-256 hash, amount, expiry. */
export const packLock = ({ hash, amount, expiry }) => concat([hash, numberToHex(amount, { size: 16 }), numberToHex(expiry, { size: 8 })]);
/** A list's bytes, in the order of adding. */
export const packList = (locks) => (locks.length === 0 ? '0x' : concat(locks.map(packLock)));
/** A list's root. */
export const listRoot = (locks) => (locks.length === 0 ? ZERO : keccak256(packList(locks)));
/** What a preimage of 32 bytes hashes to. */
export const hashOf = (preimage) => sha256(preimage);

/** Takes the higher version of each half. */
export const merge = (one, other) => ({
  a: one.a.version >= other.a.version ? one.a : other.a,
  b: one.b.version >= other.b.version ? one.b : other.b,
});

/** What a side may take out, with the locks of which `won` says that they were revealed in time. */
export function balanceA({ netA }, { a, b }, listA = [], listB = [], won = () => false) {
  const sum = (list) => list.filter(won).reduce((total, lock) => total + lock.amount, 0n);
  return netA + b.paid - a.paid + sum(listB) - sum(listA);
}

export class ChannelClient {
  /** `l1` reads, `abi` and `address` are the contract's. */
  constructor({ l1, abi, address, chainId }, params) {
    Object.assign(this, { l1, abi, address, params });
    this.domain = { name: 'Millrace Channel', version: '1', chainId, verifyingContract: address };
    this.separator = hashDomain({ domain: this.domain, types });
    this.id = keccak256(encodeAbiParameters(
      [{ type: 'bytes32' }, ...PARAMS.map(([type]) => ({ type }))],
      [this.separator, ...PARAMS.map(([, name]) => params[name])],
    ));
  }

  typed(primaryType, message) {
    return { domain: this.domain, types, primaryType, message: { channelId: this.id, ...message } };
  }

  snapshot({ a, b }) {
    return this.typed('Snapshot', {
      versionA: a.version, paidA: a.paid, locksA: a.locks, versionB: b.version, paidB: b.paid, locksB: b.locks,
    });
  }

  coop(epoch, payA, payB, validUntil) {
    return this.typed('Coop', { epoch, payA, payB, validUntil });
  }

  close(validUntil) {
    return this.typed('Close', { validUntil });
  }

  digest(typed) {
    return hashTypedData(typed);
  }

  /** Whether `signer` signed. */
  async isSignedBy(typed, signature, signer) {
    return (await recoverTypedDataAddress({ ...typed, signature })).toLowerCase() === signer.toLowerCase();
  }

  read(functionName, ...args) {
    return this.l1.readContract({ address: this.address, abi: this.abi, functionName, args });
  }

  /** Sends a call and waits until it is mined; throws what it reverts with. */
  async send(wallet, functionName, args, value = 0n) {
    const call = { address: this.address, abi: this.abi, functionName, args, value, account: wallet.account };
    const { request } = await this.l1.simulateContract(call);
    const receipt = await this.l1.waitForTransactionReceipt({ hash: await wallet.writeContract(request) });
    if (receipt.status !== 'success') throw new Error(`${functionName} reverted`);
    return receipt;
  }

  deposit(wallet, sideB, amount) {
    return this.send(wallet, 'deposit', [this.params, sideB, amount], amount);
  }

  submit(wallet, halves, listA, listB, sigA, sigB, closeUntil = 0n, closeSig = '0x') {
    return this.send(wallet, 'submit', [this.params, halves, packList(listA), packList(listB), sigA, sigB, closeUntil, closeSig]);
  }

  settle(wallet, listA, listB) {
    return this.send(wallet, 'settle', [this.params, packList(listA), packList(listB)]);
  }

  reveal(wallet, preimages) {
    return this.send(wallet, 'reveal', [preimages]);
  }

  cooperate(wallet, payA, payB, validUntil, sigA, sigB) {
    return this.send(wallet, 'cooperate', [this.params, payA, payB, validUntil, sigA, sigB]);
  }
}
