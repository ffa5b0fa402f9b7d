// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRollup} from "../interfaces/IRollup.sol";

/// @title  Groth16 over BN254, several proofs of one key in one pairing
/// @notice With ρ_0 = 1 and random ρ_i it checks
///         Π e(ρ_i·A_i, B_i) · e(Σρ_i·(−α), β) · e(Σρ_i·x_i, −γ) · e(Σρ_i·C_i, −δ) = 1, in k + 3 pairs.
///         Without random weights the errors of two false proofs could cancel.
///
/// A key is stored as the code of a contract: 0x00, then −α, β, −γ, −δ, IC_0 … IC_3, 22 words.
library Groth16 {
    uint256 internal constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    uint256 internal constant Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583;

    /// @dev C, z, y.
    uint256 internal constant INPUTS = 3;

    uint256 private constant KEY_BYTES = 704;
    uint256 private constant GAMMA = 0xc0;
    uint256 private constant DELTA = 0x140;
    uint256 private constant IC = 0x1c0;

    // The generator of G2, imaginary parts first.
    uint256 private constant G2_X1 = 11559732032986387107991004021392285783925812861821192530917403151452391805634;
    uint256 private constant G2_X0 = 10857046999023057135944570762232829481370756359578518086990519993285655852781;
    uint256 private constant G2_Y1 = 4082367875863433681332203403145435568316851327593401208105741076214120093531;
    uint256 private constant G2_Y0 = 8495653923123431417604973247489272438418190587263600148770280649306958101930;

    // ------------------------------------------------------------------------------------------------ verify

    /// @notice Reverts unless every proof is true of its inputs.
    /// @param  key    contract that holds the key
    /// @param  inputs INPUTS words below r for each proof
    /// @param  seed   commits to all statements and proofs; the weights come from it
    function verify(address key, uint256[] memory inputs, IRollup.Proof[] calldata proofs, bytes32 seed) internal view {
        _checkCoordinates(proofs);
        uint256 reason = uint32(IRollup.ProofIsFalse.selector);
        // Free memory from here on: k + 3 pairs of 192 bytes, the key, Σρ_i and the Σρ_i·x_i, and 160 bytes of scratch.
        // `sum` below is the G1 point of the last pair, where Σρ_i·C_i gathers.
        assembly ("memory-safe") {
            // A precompile that refuses its input burns all gas it got: revert at once, with the 64th that is left.
            function check(isTrue, selector) {
                if iszero(isTrue) {
                    mstore(0, shl(224, selector))
                    revert(0, 4)
                }
            }
            // Scalar multiplication of 96 bytes at `from`; addition of 128 bytes at `from`.
            function multiply(from, to, selector) {
                check(staticcall(gas(), 7, from, 96, to, 64), selector)
                check(eq(returndatasize(), 64), selector)
            }
            function plus(from, to, selector) {
                check(staticcall(gas(), 6, from, 128, to, 64), selector)
                check(eq(returndatasize(), 64), selector)
            }

            let k := proofs.length
            let pairs := mload(0x40)
            let fixedPairs := add(pairs, mul(192, k))
            let sum := add(fixedPairs, 384)
            let keyWords := add(fixedPairs, 576)
            // The word after the key is for the scalar of its last point.
            let sums := add(keyWords, add(KEY_BYTES, 32))
            let scratch := add(sums, 128)
            extcodecopy(key, keyWords, 1, KEY_BYTES)

            // The first proof has the weight 1: (A, B), C, and its inputs.
            calldatacopy(pairs, proofs.offset, 192)
            calldatacopy(sum, add(proofs.offset, 192), 64)
            mstore(sums, 1)
            mcopy(add(sums, 32), add(inputs, 32), 96)

            for { let i := 1 } lt(i, k) { i := add(i, 1) } {
                mstore(scratch, seed)
                mstore(add(scratch, 32), i)
                let weight := and(keccak256(scratch, 64), 0xffffffffffffffffffffffffffffffff)
                let proof := add(proofs.offset, mul(256, i))
                let pair := add(pairs, mul(192, i))
                // (ρ·A, B)
                calldatacopy(scratch, proof, 64)
                mstore(add(scratch, 64), weight)
                multiply(scratch, pair, reason)
                calldatacopy(add(pair, 64), add(proof, 64), 128)
                // sum += ρ·C
                calldatacopy(scratch, add(proof, 192), 64)
                multiply(scratch, scratch, reason)
                mcopy(add(scratch, 64), sum, 64)
                plus(scratch, sum, reason)
                // Σρ and Σρ·x
                mstore(sums, addmod(mload(sums), weight, R))
                for { let j := 32 } lt(j, 128) { j := add(j, 32) } {
                    let x := mload(add(inputs, add(mul(96, i), j)))
                    let old := mload(add(sums, j))
                    mstore(add(sums, j), addmod(old, mulmod(weight, x, R), R))
                }
            }

            // (Σρ·(−α), β), (X, −γ), (Σρ·C, −δ)
            mcopy(fixedPairs, keyWords, 192)
            mcopy(add(fixedPairs, 256), add(keyWords, GAMMA), 128)
            mcopy(add(fixedPairs, 448), add(keyWords, DELTA), 128)
            // X = Σρ·IC_0 + Σ_j (Σρ·x_j)·IC_j, gathered at `scratch`, the products beside it at scratch + 64. The last
            // point comes first: its scalar overwrites what follows it, which has been used.
            for { let j := 3 } j { j := sub(j, 1) } {
                let point := add(add(keyWords, IC), mul(64, j))
                mstore(add(point, 64), mload(add(sums, mul(32, j))))
                switch j
                case 3 { multiply(point, scratch, reason) }
                default {
                    multiply(point, add(scratch, 64), reason)
                    plus(scratch, scratch, reason)
                }
            }
            mcopy(add(scratch, 64), add(keyWords, IC), 64)
            if gt(k, 1) {
                mstore(add(keyWords, add(IC, 64)), mload(sums))
                multiply(add(keyWords, IC), add(scratch, 64), reason)
                mstore(add(keyWords, 64), mload(sums))
                multiply(keyWords, fixedPairs, reason)
            }
            plus(scratch, add(fixedPairs, 192), reason)

            check(staticcall(gas(), 8, pairs, mul(192, add(k, 3)), scratch, 32), reason)
            check(and(eq(returndatasize(), 32), eq(mload(scratch), 1)), reason)
        }
    }

    /// @dev The precompiles refuse them too; this says which.
    function _checkCoordinates(IRollup.Proof[] calldata proofs) private pure {
        uint256 bad = 0;
        assembly ("memory-safe") {
            let end := add(proofs.offset, mul(256, proofs.length))
            for { let p := proofs.offset } lt(p, end) { p := add(p, 32) } {
                if iszero(lt(calldataload(p), Q)) { bad := p }
            }
            if bad { bad := calldataload(bad) }
        }
        if (bad != 0) revert IRollup.CoordinateOutOfRange(bad);
    }

    // ------------------------------------------------------------------------------------------------ keys

    /// @notice Stores a key as the code of a new contract, −α, −γ and −δ baked in.
    /// @dev    Refuses what would make false proofs easy or true ones impossible: δ = ±γ, δ = ± the generator, points
    ///         at infinity, off the curve or (G2) outside the subgroup, a wrong number of inputs.
    function store(uint16 id, IRollup.VerifyingKey memory key) internal returns (address) {
        if (key.ic.length != INPUTS + 1) revert IRollup.KeyInputs(id, INPUTS + 1, key.ic.length);
        _checkG1(id, key.alpha);
        for (uint256 i = 0; i < key.ic.length; ++i) {
            _checkG1(id, key.ic[i]);
        }
        _checkG2(id, key.beta);
        _checkG2(id, key.gamma);
        _checkG2(id, key.delta);
        uint256[4] memory generator = [G2_X1, G2_X0, G2_Y1, G2_Y0];
        if (_sameUpToSign(key.delta, key.gamma) || _sameUpToSign(key.delta, generator)) {
            revert IRollup.KeyInsecure(id);
        }
        return _deploy(
            bytes.concat(
                abi.encode(key.alpha[0], Q - key.alpha[1], key.beta, _negated(key.gamma), _negated(key.delta)),
                abi.encode(key.ic[0], key.ic[1], key.ic[2], key.ic[3])
            )
        );
    }

    /// @dev On this curve the points with a given x are one point and its negative.
    function _sameUpToSign(uint256[4] memory a, uint256[4] memory b) private pure returns (bool) {
        return a[0] == b[0] && a[1] == b[1];
    }

    /// @dev No point of G2's subgroup has y = 0, but one coordinate of y may be 0.
    function _negated(uint256[4] memory p) private pure returns (uint256[4] memory) {
        return [p[0], p[1], (Q - p[2]) % Q, (Q - p[3]) % Q];
    }

    function _checkG1(uint16 id, uint256[2] memory p) private view {
        bool ok = (p[0] | p[1]) != 0 && p[0] < Q && p[1] < Q;
        uint256[4] memory scratch;
        assembly ("memory-safe") {
            mcopy(scratch, p, 64)
            // p + infinity: fails unless p is on the curve
            ok := and(ok, staticcall(gas(), 6, scratch, 128, scratch, 64))
        }
        if (!ok) revert IRollup.KeyPoint(id);
    }

    function _checkG2(uint16 id, uint256[4] memory p) private view {
        bool ok = (p[0] | p[1] | p[2] | p[3]) != 0 && p[0] < Q && p[1] < Q && p[2] < Q && p[3] < Q;
        uint256[6] memory scratch;
        assembly ("memory-safe") {
            mcopy(add(scratch, 64), p, 128)
            // e(infinity, p): fails unless p is in the subgroup
            ok := and(ok, staticcall(gas(), 8, scratch, 192, scratch, 32))
        }
        if (!ok) revert IRollup.KeyPoint(id);
    }

    /// @dev Creation code that returns what follows it: PUSH2 size, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY,
    ///      RETURNDATASIZE, RETURN. The leading 0x00 stops whoever calls the key.
    function _deploy(bytes memory words) private returns (address key) {
        bytes memory code = abi.encodePacked(hex"61", uint16(KEY_BYTES + 1), hex"80600a3d393df3", hex"00", words);
        assembly ("memory-safe") {
            key := create(0, add(code, 32), mload(code))
        }
        // Creation fails only for want of gas, and then so does the deployment.
        assert(key != address(0));
    }
}
