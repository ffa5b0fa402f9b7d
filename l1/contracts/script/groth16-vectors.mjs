// Writes test/vectors/Groth16Vectors.sol. `node script/groth16-vectors.mjs`
//
//   1. A verifying key whose trapdoor is known: with it the tests make a true proof of any statement, so the verifier runs
//      unchanged on every batch that a test can think of. (Nobody may know it of a real key.)
//   2. A key, statements and proofs that snarkjs made for a circuit of three public inputs (C = z·y, z = w²): formats
//      and signs as others have them.
// Not reproducible byte for byte: snarkjs draws its own randomness. The file is written once.
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';
import * as snarkjs from 'snarkjs';

const snarkjsRequire = createRequire(createRequire(import.meta.url).resolve('snarkjs'));
const { buildBn128 } = snarkjsRequire('ffjavascript');
const R = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;

const scalar = (name) => BigInt(`0x${createHash('sha256').update(`millrace test trapdoor ${name}`).digest('hex')}`) % R;

// ---------------------------------------------------------------- binary formats of iden3, just enough of them

const u32 = (value) => Buffer.from(Uint32Array.of(value).buffer);
const u64 = (value) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const field = (value) => Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse();
const section = (id, ...parts) => Buffer.concat([u32(id), u64(Buffer.concat(parts).length), ...parts]);
const combination = (terms) =>
  Buffer.concat([u32(terms.length), ...terms.map(([wire, factor]) => Buffer.concat([u32(wire), field(factor)]))]);

function r1cs(wires, publicInputs, constraints) {
  const header = [u32(32), field(R), u32(wires), u32(0), u32(publicInputs), u32(wires - 1 - publicInputs)];
  return Buffer.concat([
    Buffer.from('r1cs'), u32(1), u32(3),
    section(1, ...header, u64(wires), u32(constraints.length)),
    section(2, ...constraints.flat().map(combination)),
    section(3, ...Array.from({ length: wires }, (_, wire) => u64(wire))),
  ]);
}

const wtns = (values) =>
  Buffer.concat([
    Buffer.from('wtns'), u32(2), u32(2),
    section(1, u32(32), field(R), u32(values.length)),
    section(2, ...values.map(field)),
  ]);

// ---------------------------------------------------------------- snarkjs' key and proofs

const memory = (data) => ({ type: 'mem', data: data && new Uint8Array(data) });

async function snarkjsVectors(curve) {
  // Wires 1, C, z, y, w.
  const circuit = memory(r1cs(5, 3, [
    [[[2, 1n]], [[3, 1n]], [[1, 1n]]],
    [[[4, 1n]], [[4, 1n]], [[2, 1n]]],
  ]));
  const files = Array.from({ length: 5 }, () => memory());
  await snarkjs.powersOfTau.newAccumulator(curve, 4, files[0]);
  await snarkjs.powersOfTau.contribute(files[0], files[1], 'test', 'test entropy');
  await snarkjs.powersOfTau.preparePhase2(files[1], files[2]);
  await snarkjs.zKey.newZKey(circuit, files[2], files[3]);
  await snarkjs.zKey.contribute(files[3], files[4], 'test', 'more test entropy');
  const key = await snarkjs.zKey.exportVerificationKey(files[4]);
  const proofs = [];
  for (const [w, y] of [[3n, 5n], [7n, R - 1n], [123456789n, 987654321n]]) {
    const z = (w * w) % R;
    const { proof, publicSignals } = await snarkjs.groth16.prove(files[4], memory(wtns([1n, (z * y) % R, z, y, w])));
    if (!(await snarkjs.groth16.verify(key, publicSignals, proof))) throw new Error('snarkjs refuses its own proof');
    proofs.push({ proof, publicSignals });
  }
  return { key, proofs };
}

// ---------------------------------------------------------------- Solidity

const g1 = ([x, y]) => `[uint256(${x}), ${y}]`;
// The precompiles want the imaginary part first.
const g2 = ([[x0, x1], [y0, y1]]) => `[uint256(${x1}), ${x0}, ${y1}, ${y0}]`;

function keyFunction(name, { vk_alpha_1: alpha, vk_beta_2: beta, vk_gamma_2: gamma, vk_delta_2: delta, IC }) {
  return `    function ${name}() internal pure returns (IRollup.VerifyingKey memory key) {
        key.alpha = ${g1(alpha)};
        key.beta = ${g2(beta)};
        key.gamma = ${g2(gamma)};
        key.delta = ${g2(delta)};
        key.ic = new uint256[2][](${IC.length});
${IC.map((point, i) => `        key.ic[${i}] = ${g1(point)};`).join('\n')}
    }`;
}

function proofFunction({ proof, publicSignals }, i) {
  return `        if (i == ${i}) {
            inputs = [uint256(${publicSignals[0]}), ${publicSignals[1]}, ${publicSignals[2]}];
            proof = IRollup.Proof(${g1(proof.pi_a)}, ${g2(proof.pi_b)}, ${g1(proof.pi_c)});
        }`;
}

const curve = await buildBn128();
const point = (group, value) => group.toObject(group.toAffine(group.timesScalar(group.g, value)));
const names = ['ALPHA', 'BETA', 'GAMMA', 'DELTA', 'IC0', 'IC1', 'IC2', 'IC3'];
const trapdoor = Object.fromEntries(names.map((name) => [name, scalar(name)]));
const trapdoorKey = {
  vk_alpha_1: point(curve.G1, trapdoor.ALPHA),
  vk_beta_2: point(curve.G2, trapdoor.BETA),
  vk_gamma_2: point(curve.G2, trapdoor.GAMMA),
  vk_delta_2: point(curve.G2, trapdoor.DELTA),
  IC: [0, 1, 2, 3].map((i) => point(curve.G1, trapdoor[`IC${i}`])),
};
const vectors = await snarkjsVectors(curve);
const source = `// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// Written by script/groth16-vectors.mjs; do not edit.

import {IRollup} from "../../src/interfaces/IRollup.sol";

/// @title Keys and proofs of the tests: INSECURE, their trapdoors are known
library Groth16Vectors {
${names.map((name) => `    uint256 internal constant ${name} = ${trapdoor[name]};`).join('\n')}

${keyFunction('trapdoorKey', trapdoorKey)}

${keyFunction('snarkjsKey', vectors.key)}

    function snarkjsProof(uint256 i) internal pure returns (uint256[3] memory inputs, IRollup.Proof memory proof) {
${vectors.proofs.map(proofFunction).join('\n')}
    }
}
`;
const target = join(dirname(fileURLToPath(import.meta.url)), '..', 'test', 'vectors', 'Groth16Vectors.sol');
writeFileSync(target, source);
await curve.terminate();
process.exit(0);
