// Numbers, hashes and codes of docs/protocol.md §1–§3, written from that file alone: what a wallet and a state rebuilder share.
//
//   text, amounts → words (BigInt below r) → Poseidon → owner, leaf, core, message        words ⇄ payment addresses
import { createRequire } from 'node:module';
import { encodeAbiParameters, keccak256, toBytes } from 'viem';

// Both packages ship ES modules that Node does not load; their CommonJS forms work.
const require = createRequire(import.meta.url);
const poseidonLite = require('poseidon-lite');
export const eddsa = require('@zk-kit/eddsa-poseidon/blake-1');

/** The scalar field of BN254: a word is an integer in [0, R). */
export const R = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;
/** Order of BabyJubjub's subgroup. */
export const SUBGROUP_ORDER = 2736030358979909402780800718157159386076813972158567259200215660948447373041n;
/** Levels of the state tree; each node has four children. */
export const TREE_DEPTH = 12;
/** Kind numbers (§3). */
export const KIND = { deposit: 1n, forcedExit: 2n, transfer: 3n, withdraw: 4n };

/** circomlib's Poseidon of 1 to 16 words. */
export function poseidon(...words) {
  return poseidonLite[`poseidon${words.length}`](words);
}

// ------------------------------------------------------------------------------------------------ amounts

/** A decimal float code: the one with the smallest exponent that states `value` exactly, or an error. */
function decimalCode(value, mantissaBits) {
  let [mantissa, exponent] = [BigInt(value), 0n];
  while (mantissa >> mantissaBits !== 0n) {
    if (mantissa % 10n !== 0n || exponent === 31n) throw new RangeError(`${value} has no exact code`);
    [mantissa, exponent] = [mantissa / 10n, exponent + 1n];
  }
  return (exponent << mantissaBits) + mantissa;
}

function decimalValue(code, mantissaBits) {
  return (code & ((1n << mantissaBits) - 1n)) * 10n ** (code >> mantissaBits);
}

export const float40 = { code: (value) => decimalCode(value, 35n), value: (code) => decimalValue(code, 35n) };
export const feeByte = { code: (value) => decimalCode(value, 3n), value: (code) => decimalValue(code, 3n) };

// ------------------------------------------------------------------------------------------------ state

/** owner = Poseidon_3(L1 address, A.x, A.y). */
export function ownerOf(l1Address, [x, y]) {
  return poseidon(BigInt(l1Address), x, y);
}

/** leaf = Poseidon_3(owner, token + nonce·2^32, balance). */
export function leafOf({ owner, token, nonce, balance }) {
  return poseidon(owner, token + (nonce << 32n), balance);
}

// ------------------------------------------------------------------------------------------------ signing

/** domain = keccak256(abi.encode("millrace-rollup-1", chain id, contract)) >> 8. */
export function domainOf(chainId, contract) {
  const parameters = [{ type: 'string' }, { type: 'uint256' }, { type: 'address' }];
  const encoded = encodeAbiParameters(parameters, ['millrace-rollup-1', BigInt(chainId), contract]);
  return BigInt(keccak256(encoded)) >> 8n;
}

/** The core of a transaction {kind, from, nonce, token, fee, amount, recipient}: amounts as values, recipient as a word. */
export function coreOf(transaction) {
  const { kind, from, nonce, token, fee, amount, recipient } = transaction;
  const isTransfer = kind === 'transfer';
  const head =
    KIND[kind] + (from << 8n) + (nonce << 32n) + (feeByte.code(fee) << 72n) + (token << 80n);
  return poseidon(head, isTransfer ? float40.code(amount) : amount, isTransfer ? recipient : 0n);
}

/** M = Poseidon_4(domain, core, link, valid_until): what is signed, and the transaction's id. */
export function messageOf(transaction, domain) {
  return poseidon(domain, coreOf(transaction), transaction.link, transaction.validUntil);
}

/** A word as 0x and 64 hexadecimal digits: the form of transaction ids. */
export function hexWord(word) {
  return `0x${word.toString(16).padStart(64, '0')}`;
}

// ------------------------------------------------------------------------------------------------ payment addresses

const CHARSET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const BECH32M = 0x2bc830a3;
const PREFIX = 'mlr';

function checksum(values) {
  const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
  let state = 1;
  for (const value of values) {
    const top = state >>> 25;
    state = ((state & 0x1ffffff) << 5) ^ value;
    generators.forEach((generator, bit) => (state ^= (top >>> bit) & 1 ? generator : 0));
  }
  return state >>> 0;
}

const prefixValues = () => {
  const letters = [...PREFIX].map((letter) => letter.charCodeAt(0));
  return [...letters.map((code) => code >> 5), 0, ...letters.map((code) => code & 31)];
};

/** Regroups bits, most significant first. What is left over must be zero padding where none may be added. */
function regroup(values, from, to, pad) {
  let [buffer, bits] = [0, 0];
  const groups = [];
  for (const value of values) {
    buffer = (buffer << from) | value;
    for (bits += from; bits >= to; ) groups.push((buffer >> (bits -= to)) & ((1 << to) - 1));
    buffer &= (1 << bits) - 1;
  }
  if (pad && bits > 0) groups.push((buffer << (to - bits)) & ((1 << to) - 1));
  if (!pad && (bits >= from || buffer !== 0)) throw new RangeError('padding of a payment address');
  return groups;
}

/** An owner's payment address: bech32m of its 32 bytes, without a version. */
export function addressOf(owner) {
  const data = regroup(toBytes(owner, { size: 32 }), 8, 5, true);
  const sum = checksum([...prefixValues(), ...data, 0, 0, 0, 0, 0, 0]) ^ BECH32M;
  const tail = [5, 4, 3, 2, 1, 0].map((place) => (sum >>> (5 * place)) & 31);
  return `${PREFIX}1${[...data, ...tail].map((value) => CHARSET[value]).join('')}`;
}

/** The owner that a payment address names. */
export function ownerFromAddress(address) {
  if (!address.startsWith(`${PREFIX}1`)) throw new RangeError('prefix of a payment address');
  const values = [...address.slice(PREFIX.length + 1)].map((letter) => CHARSET.indexOf(letter));
  if (values.includes(-1) || checksum([...prefixValues(), ...values]) !== BECH32M) {
    throw new RangeError('checksum of a payment address');
  }
  const bytes = regroup(values.slice(0, -6), 5, 8, false);
  const owner = BigInt(`0x${Buffer.from(bytes).toString('hex') || '0'}`);
  if (bytes.length !== 32 || owner >= R) throw new RangeError('payload of a payment address');
  return owner;
}
