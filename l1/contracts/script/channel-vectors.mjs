// Vectors of the channels' signed structs, ids and lock lists, made by viem, which shares no code with the contract or
// with Rust. Signatures are deterministic (RFC 6979), so that everybody gets the same bytes.
//
//   node channel-vectors.mjs write   -> channels/vectors/eip712.json
//   node channel-vectors.mjs check      compares, and fails if they differ
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  concat, encodeAbiParameters, encodePacked, hashDomain, hashStruct, hashTypedData, keccak256, numberToHex, sha256, toHex,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';

const path = fileURLToPath(new URL('../../../channels/vectors/eip712.json', import.meta.url));
const U64 = 2n ** 64n - 1n;
const U112 = 2n ** 112n - 1n;
const ZERO = `0x${'00'.repeat(32)}`;
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

const types = {
  Snapshot: [
    ['bytes32', 'channelId'], ['uint64', 'versionA'], ['uint112', 'paidA'], ['bytes32', 'locksA'],
    ['uint64', 'versionB'], ['uint112', 'paidB'], ['bytes32', 'locksB'],
  ],
  Coop: [
    ['bytes32', 'channelId'], ['uint32', 'epoch'], ['uint112', 'payA'], ['uint112', 'payB'], ['uint64', 'validUntil'],
  ],
  Close: [['bytes32', 'channelId'], ['uint64', 'validUntil']],
  EIP712Domain: [['string', 'name'], ['string', 'version'], ['uint256', 'chainId'], ['address', 'verifyingContract']],
};
const fieldsOf = (name) => types[name].map(([type, field]) => ({ type, name: field }));
const typeText = (name) => `${name}(${types[name].map((field) => field.join(' ')).join(',')})`;
const typeHash = (name) => keccak256(toHex(typeText(name)));

const keys = ['alice', 'bob', 'tower'].map((name) => {
  const privateKey = keccak256(toHex(`millrace channel vectors: ${name}`));
  return { name, privateKey, account: privateKeyToAccount(privateKey) };
});
const [alice, bob, tower] = keys.map(({ account }) => account);

const domains = [
  { chainId: 31337n, verifyingContract: '0x5FbDB2315678afecb367f032d93F642f64180aa3' },
  { chainId: 1n, verifyingContract: '0xffffffffffffffffffffffffffffffffffffffff' },
].map((domain) => ({ name: 'Millrace Channel', version: '1', ...domain }));
const separatorOf = (domain) => hashDomain({ domain, types: { EIP712Domain: fieldsOf('EIP712Domain') } });

const paramsAbi = [
  ['address', 'signerA'], ['address', 'payoutA'], ['address', 'signerB'], ['address', 'payoutB'],
  ['address', 'token'], ['uint32', 'window'], ['uint64', 'salt'],
].map(([type, name]) => ({ type, name }));

const cold = (byte) => `0x${byte.repeat(20)}`;
const channels = [
  [0, alice, 'a1', bob, 'b1', cold('00'), 86400, 0n],
  [0, bob, 'b2', alice, 'a2', cold('c0'), 3600, 1n],
  [0, alice, 'a1', tower, 'b1', cold('c0'), 2592000, U64],
  [1, alice, 'a1', bob, 'b1', cold('00'), 86400, 0n],
].map(([domain, a, payoutA, b, payoutB, token, window, salt]) => {
  const params = {
    signerA: a.address, payoutA: cold(payoutA), signerB: b.address, payoutB: cold(payoutB), token, window, salt,
  };
  const encoded = encodeAbiParameters(
    [{ type: 'bytes32' }, { type: 'tuple', components: paramsAbi }],
    [separatorOf(domains[domain]), params],
  );
  return { domain, a, b, params, encoded, id: keccak256(encoded) };
});

const lock = (number, amount, expiry) => {
  const preimage = keccak256(toHex(`millrace channel vectors: preimage ${number}`));
  return { preimage, hash: sha256(preimage), amount, expiry };
};
const lists = [
  [],
  [lock(0, 1n, 1_800_000_000n)],
  [lock(1, 2n ** 100n - 1n, U64), lock(2, 0n, 0n), lock(1, 5n, 1_800_000_000n)],
  Array.from({ length: 200 }, (_, i) => lock(i, BigInt(i + 1) * 10n ** 9n, 1_800_000_000n + BigInt(i))),
].map((locks) => {
  const packed = concat(
    ['0x'].concat(locks.map((l) => encodePacked(['bytes32', 'uint128', 'uint64'], [l.hash, l.amount, l.expiry]))),
  );
  return { locks, packed, root: locks.length === 0 ? ZERO : keccak256(packed) };
});

const text = (value) => (typeof value === 'bigint' || typeof value === 'number' ? value.toString() : value);
const texts = (object) => Object.fromEntries(Object.entries(object).map(([key, value]) => [key, text(value)]));

async function signed(primaryType, channelIndex, fields) {
  const channel = channels[channelIndex];
  const domain = domains[channel.domain];
  const message = { channelId: channel.id, ...fields };
  const definition = { [primaryType]: fieldsOf(primaryType) };
  const typed = { domain, types: definition, primaryType, message };
  return {
    channel: channelIndex,
    ...texts(fields),
    structHash: hashStruct({ data: message, primaryType, types: definition }),
    digest: hashTypedData(typed),
    signatureA: await channel.a.signTypedData(typed),
    signatureB: await channel.b.signTypedData(typed),
  };
}

const snapshot = (channel, versionA, paidA, listA, versionB, paidB, listB) =>
  signed('Snapshot', channel, {
    versionA, paidA, locksA: lists[listA].root, versionB, paidB, locksB: lists[listB].root,
  }).then((vector) => ({ ...vector, listA, listB }));

/** A tower's receipt; of version 1 without preimages. */
async function receipt(channel, versionA, versionB, stored, locks) {
  const hashes = locks && [...new Set(locks.map((l) => l.hash))].sort();
  const held = hashes && { count: hashes.length, hashes: keccak256(concat(['0x', ...hashes])) };
  const parts = [
    toHex(`Millrace tower receipt v${held ? 2 : 1}`), channels[channel].id, numberToHex(versionA, { size: 8 }),
    numberToHex(versionB, { size: 8 }), numberToHex(stored, { size: 8 }),
  ];
  if (held) parts.push(numberToHex(held.count, { size: 2 }), held.hashes);
  const digest = keccak256(concat(parts));
  const signature = await tower.sign({ hash: digest });
  const fields = { ...texts({ versionA, versionB, stored }), preimages: held ? locks.map((l) => l.preimage) : null };
  return { channel, ...fields, held: held ? texts(held) : null, digest, signature };
}

/** The numbers of a snapshot's locks, signed by side A as a tower's client. */
async function numbers(index, { channel, digest: of }, last, listA, listB) {
  const u64 = (value) => numberToHex(value, { size: 8 });
  const list = (values) => concat([u64(BigInt(values.length)), ...values.map(u64)]);
  const digest = keccak256(concat([toHex('Millrace tower lock numbers v1'), of, u64(last), list(listA), list(listB)]));
  const signature = await channels[channel].a.sign({ hash: digest });
  return { snapshot: index, last: text(last), listA: listA.map(text), listB: listB.map(text), digest, signature };
}

/** Signatures that have to be refused for the digest of the first snapshot and its signer A. */
function refused(first) {
  const [r, s] = [first.signatureA.slice(2, 66), BigInt(`0x${first.signatureA.slice(66, 130)}`)];
  const v = parseInt(first.signatureA.slice(130), 16);
  const joined = (s_, v_) => `0x${r}${numberToHex(s_, { size: 32 }).slice(2)}${v_.toString(16).padStart(2, '0')}`;
  const row = (reason, signature) => ({ reason, signer: alice.address, digest: first.digest, signature });
  return [
    row('s in the upper half of the order', joined(ORDER - s, v === 27 ? 28 : 27)),
    row('v is 0 or 1', joined(s, v - 27)),
    row('v says the other point', joined(s, v === 27 ? 28 : 27)),
    row('v is 29', joined(s, 29)),
    row('64 bytes', joined(s, v).slice(0, -2)),
    row('66 bytes', `${joined(s, v)}00`),
    row('empty', '0x'),
    row('zero', `0x${'00'.repeat(65)}`),
    row("the other side's", first.signatureB),
  ];
}

async function vectors() {
  const snapshots = [
    await snapshot(0, 1n, 0n, 0, 0n, 0n, 0),
    await snapshot(0, 7n, 123456789n, 1, 9n, 987654321n, 2),
    await snapshot(1, U64, U112, 3, U64, U112, 2),
    await snapshot(2, 2n ** 32n, 10n ** 18n, 0, 3n, 5n, 1),
    await snapshot(3, 1n, 0n, 0, 0n, 0n, 0),
  ];
  const coop = (channel, epoch, payA, payB, validUntil) => signed('Coop', channel, { epoch, payA, payB, validUntil });
  const close = (channel, validUntil) => signed('Close', channel, { validUntil });
  return {
    format: [
      'Made by l1/contracts/script/channel-vectors.mjs with viem; read by the tests of the contract and of Rust.',
      'Integers are decimal text, bytes are 0x and hex; signatures are 65 bytes: r, s, v with v 27 or 28.',
      'domains: the EIP-712 domain and its separator. keys: private keys by name, for these vectors only.',
      'channels: domain is an index into domains; encoded is abi.encode(separator, params), id its keccak256.',
      'lists: locks in order, preimage is not part of the list; packed is 56 bytes a lock: sha256 hash of the preimage,',
      'u128 amount, u64 expiry, big-endian; root is keccak256(packed), or zero for the empty list.',
      'snapshots, coops, closes: channel is an index into channels, listA and listB into lists; structHash is of the',
      'struct with its type hash, digest is keccak256(0x1901, separator, structHash), signatureA and signatureB are of',
      "the channel's signerA and signerB. refused: signatures that nobody may accept for this digest and signer.",
      "receipts: a tower's, signed by the key 'tower'; preimages that it holds, or null in version 1; held: how many different",
      'ones, and keccak256 of their sorted sha256 hashes. numbers: of the locks of a snapshot, signed by its signerA.',
    ],
    types: Object.keys(types).map((name) => ({ name, text: typeText(name), hash: typeHash(name) })),
    domains: domains.map((domain) => ({ ...texts(domain), separator: separatorOf(domain) })),
    keys: keys.map(({ name, privateKey, account }) => ({ name, privateKey, address: account.address })),
    channels: channels.map(({ domain, params, encoded, id }) => ({ domain, ...texts(params), encoded, id })),
    lists: lists.map(({ locks, packed, root }) => ({ locks: locks.map(texts), packed, root })),
    snapshots,
    coops: [
      await coop(0, 0, 1n, 2n, 1_800_000_000n),
      await coop(1, 41, U112, 0n, U64),
      await coop(2, 2 ** 31 - 2, 0n, 0n, 0n),
      await coop(3, 0, 1n, 2n, 1_800_000_000n),
    ],
    closes: [await close(0, 1_800_000_000n), await close(1, U64), await close(3, 1_800_000_000n)],
    refused: refused(snapshots[0]),
    receipts: [
      await receipt(0, 7n, 9n, 1_800_000_000n, null),
      await receipt(0, 7n, 9n, 1_800_000_000n, []),
      await receipt(1, U64, 0n, U64, lists[2].locks),
      await receipt(2, 1n, 2n, 3n, lists[3].locks),
    ],
    numbers: [
      await numbers(0, snapshots[0], 0n, [], []),
      await numbers(1, snapshots[1], 12n, [12n], [3n, 4n, U64]),
    ],
  };
}

const wanted = `${JSON.stringify(await vectors(), null, 1)}\n`;
const mode = process.argv[2];
if (mode === 'write') writeFileSync(path, wanted);
else if (mode === 'check') {
  if (readFileSync(path, 'utf8') !== wanted) {
    console.error('channels/vectors/eip712.json is not what viem makes of it; run node channel-vectors.mjs write');
    process.exit(1);
  }
} else {
  console.error('usage: channel-vectors.mjs write|check');
  process.exit(2);
}
