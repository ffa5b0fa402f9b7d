// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Test} from "./utils/Test.sol";
import {Reference} from "./utils/Reference.sol";
import {Groth16Vectors} from "./vectors/Groth16Vectors.sol";
import {Groth16} from "../src/libraries/Groth16.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

contract Groth16Caller {
    address public key;

    function store(uint16 id, IRollup.VerifyingKey memory key_) external {
        key = Groth16.store(id, key_);
    }

    function verify(uint256[] memory inputs, IRollup.Proof[] calldata proofs, bytes32 seed) external view {
        Groth16.verify(key, inputs, proofs, seed);
    }
}

/// @title The verifier: true proofs pass, everything else reverts
contract Groth16Test is Test {
    uint256 private constant Q = Reference.Q;
    uint256 private constant R = Reference.R;
    bytes32 private constant SEED = keccak256("seed");

    // On the twist, outside the subgroup of order r: x = 1.
    uint256 private constant STRAY_Y0 = 18278151005453108793778860132295291098363647455926340152056652516292830556603;
    uint256 private constant STRAY_Y1 = 5912654199736721486680175016176231956195085055698687135131307249486702594212;

    Groth16Caller private caller;

    function setUp() public {
        caller = new Groth16Caller();
        caller.store(1, Groth16Vectors.trapdoorKey());
    }

    function _statements(uint256 count) private view returns (uint256[] memory inputs, IRollup.Proof[] memory proofs) {
        inputs = new uint256[](3 * count);
        proofs = new IRollup.Proof[](count);
        for (uint256 i = 0; i < count; ++i) {
            for (uint256 j = 0; j < 3; ++j) {
                inputs[3 * i + j] = uint256(keccak256(abi.encode(i, j))) % R;
            }
            proofs[i] = Reference.prove(inputs[3 * i], inputs[3 * i + 1], inputs[3 * i + 2], i);
        }
    }

    function _expectFalse() private {
        vm.expectRevert(abi.encodeWithSelector(IRollup.ProofIsFalse.selector));
    }

    // ------------------------------------------------------------------------------------------------ true

    function test_verify_accepts_true_proofs() public view {
        for (uint256 count = 1; count <= 5; ++count) {
            (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(count);
            caller.verify(inputs, proofs, SEED);
        }
    }

    function testFuzz_verify_accepts_any_true_statement(uint256 c, uint256 z, uint256 y, bytes32 seed) public view {
        uint256[] memory inputs = new uint256[](6);
        IRollup.Proof[] memory proofs = new IRollup.Proof[](2);
        (inputs[0], inputs[1], inputs[2]) = (c % R, z % R, y % R);
        (inputs[3], inputs[4], inputs[5]) = (y % R, 0, R - 1);
        proofs[0] = Reference.prove(c % R, z % R, y % R, 1);
        proofs[1] = Reference.prove(y % R, 0, R - 1, 2);
        caller.verify(inputs, proofs, seed);
    }

    /// @dev Another program's key and proofs: signs, order of coordinates, order of inputs.
    function test_verify_accepts_what_snarkjs_proves() public {
        caller.store(1, Groth16Vectors.snarkjsKey());
        uint256[] memory all = new uint256[](9);
        IRollup.Proof[] memory allProofs = new IRollup.Proof[](3);
        for (uint256 i = 0; i < 3; ++i) {
            (uint256[3] memory given, IRollup.Proof memory proof) = Groth16Vectors.snarkjsProof(i);
            uint256[] memory inputs = new uint256[](3);
            IRollup.Proof[] memory proofs = new IRollup.Proof[](1);
            for (uint256 j = 0; j < 3; ++j) {
                inputs[j] = given[j];
                all[3 * i + j] = given[j];
            }
            proofs[0] = proof;
            allProofs[i] = proof;
            caller.verify(inputs, proofs, 0);
        }
        caller.verify(all, allProofs, SEED);
        // In another order they are other statements.
        (all[3], all[4]) = (all[4], all[3]);
        _expectFalse();
        caller.verify(all, allProofs, SEED);
    }

    function test_verify_accepts_another_proof_of_the_same_statement() public view {
        (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(1);
        proofs[0] = Reference.prove(inputs[0], inputs[1], inputs[2], 12345);
        caller.verify(inputs, proofs, SEED);
    }

    // ------------------------------------------------------------------------------------------------ false

    function test_verify_refuses_another_input() public {
        for (uint256 count = 1; count <= 3; ++count) {
            (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(count);
            for (uint256 i = 0; i < inputs.length; ++i) {
                inputs[i] = addmod(inputs[i], 1, R);
                _expectFalse();
                caller.verify(inputs, proofs, SEED);
                inputs[i] = addmod(inputs[i], R - 1, R);
            }
        }
    }

    function test_verify_refuses_a_negated_point() public {
        (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(2);
        for (uint256 i = 0; i < 2; ++i) {
            proofs[i].a[1] = Q - proofs[i].a[1];
            _expectFalse();
            caller.verify(inputs, proofs, SEED);
            proofs[i].a[1] = Q - proofs[i].a[1];
            proofs[i].c[1] = Q - proofs[i].c[1];
            _expectFalse();
            caller.verify(inputs, proofs, SEED);
            proofs[i].c[1] = Q - proofs[i].c[1];
        }
    }

    /// @dev Each coordinate has a second encoding x + q in 256 bits: refused, by name.
    function test_verify_refuses_coordinates_from_q_on() public {
        for (uint256 i = 0; i < 2; ++i) {
            for (uint256 j = 0; j < 8; ++j) {
                (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(2);
                uint256 moved;
                if (j < 2) moved = proofs[i].a[j] += Q;
                else if (j < 6) moved = proofs[i].b[j - 2] += Q;
                else moved = proofs[i].c[j - 6] += Q;
                vm.expectRevert(abi.encodeWithSelector(IRollup.CoordinateOutOfRange.selector, moved));
                caller.verify(inputs, proofs, SEED);
            }
        }
    }

    /// @dev A precompile that refuses its input burns the gas it got: hence the limits.
    function test_verify_refuses_points_off_the_curve() public {
        for (uint256 j = 0; j < 8; ++j) {
            (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(2);
            if (j < 2) proofs[1].a[j] = addmod(proofs[1].a[j], 1, Q);
            else if (j < 6) proofs[1].b[j - 2] = addmod(proofs[1].b[j - 2], 1, Q);
            else proofs[1].c[j - 6] = addmod(proofs[1].c[j - 6], 1, Q);
            _expectFalse();
            caller.verify{gas: 3_000_000}(inputs, proofs, SEED);
        }
    }

    function test_verify_refuses_a_point_outside_the_subgroup() public {
        (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(1);
        proofs[0].b = [0, 1, STRAY_Y1, STRAY_Y0];
        _expectFalse();
        caller.verify{gas: 3_000_000}(inputs, proofs, SEED);
    }

    function test_verify_refuses_points_at_infinity() public {
        for (uint256 j = 0; j < 4; ++j) {
            (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(1);
            if (j == 0 || j == 3) proofs[0].a = [uint256(0), 0];
            if (j == 1 || j == 3) proofs[0].b = [uint256(0), 0, 0, 0];
            if (j == 2 || j == 3) proofs[0].c = [uint256(0), 0];
            _expectFalse();
            caller.verify(inputs, proofs, SEED);
        }
    }

    /// @dev The attack that random weights prevent: C_0 + E and C_1 − E. Unweighted, the product is one.
    function test_verify_refuses_errors_that_cancel() public {
        (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(2);
        uint256[2] memory e = Reference.multiply([uint256(1), 2], 424242);
        proofs[0].c = Reference.add(proofs[0].c, e);
        proofs[1].c = Reference.add(proofs[1].c, [e[0], Q - e[1]]);
        vm.assertTrue(_holdsUnweighted(inputs, proofs), "the attack is one");
        _expectFalse();
        caller.verify(inputs, proofs, SEED);
        _expectFalse();
        caller.verify(inputs, proofs, 0);
    }

    /// @dev The same between inputs and C, and among three.
    function test_verify_refuses_errors_that_cancel_among_three() public {
        (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(3);
        uint256[2] memory e = Reference.multiply([uint256(1), 2], 5);
        proofs[1].c = Reference.add(proofs[1].c, e);
        proofs[2].c = Reference.add(proofs[2].c, [e[0], Q - e[1]]);
        vm.assertTrue(_holdsUnweighted(inputs, proofs), "the attack is one");
        _expectFalse();
        caller.verify(inputs, proofs, SEED);
        // Inputs that sum to the same.
        (inputs, proofs) = _statements(3);
        inputs[0] = addmod(inputs[0], 7, R);
        inputs[3] = addmod(inputs[3], R - 7, R);
        vm.assertTrue(_holdsUnweighted(inputs, proofs), "the attack is one");
        _expectFalse();
        caller.verify(inputs, proofs, SEED);
    }

    /// @dev Who knows the weights beforehand can cancel errors: the weights must depend on the proofs.
    function test_verify_accepts_errors_made_for_known_weights() public view {
        (uint256[] memory inputs, IRollup.Proof[] memory proofs) = _statements(2);
        uint256 weight = uint128(uint256(keccak256(abi.encode(SEED, 1))));
        proofs[0].c = Reference.add(proofs[0].c, Reference.multiply([uint256(1), 2], weight));
        proofs[1].c = Reference.add(proofs[1].c, [uint256(1), Q - 2]);
        caller.verify(inputs, proofs, SEED);
    }

    /// @dev Π e(A_i, B) · e(−k·α, β) · e(−Σ X_i, γ) · e(−Σ C_i, δ) = 1, with no weights.
    function _holdsUnweighted(uint256[] memory inputs, IRollup.Proof[] memory proofs) private view returns (bool) {
        IRollup.VerifyingKey memory key = Groth16Vectors.trapdoorKey();
        bytes memory pairs;
        uint256[2] memory x;
        uint256[2] memory c;
        for (uint256 i = 0; i < proofs.length; ++i) {
            pairs = bytes.concat(pairs, abi.encode(proofs[i].a, proofs[i].b));
            c = Reference.add(c, proofs[i].c);
            x = Reference.add(x, key.ic[0]);
            for (uint256 j = 0; j < 3; ++j) {
                x = Reference.add(x, Reference.multiply(key.ic[j + 1], inputs[3 * i + j]));
            }
        }
        uint256[2] memory alpha = Reference.multiply(key.alpha, proofs.length);
        pairs = bytes.concat(pairs, abi.encode(alpha[0], Q - alpha[1], key.beta));
        pairs = bytes.concat(pairs, abi.encode(x[0], Q - x[1], key.gamma, c[0], Q - c[1], key.delta));
        (bool ok, bytes memory data) = address(8).staticcall(pairs);
        return ok && abi.decode(data, (uint256)) == 1;
    }

    // ------------------------------------------------------------------------------------------------ keys

    function test_store_writes_the_key_with_three_points_negated() public view {
        IRollup.VerifyingKey memory k = Groth16Vectors.trapdoorKey();
        bytes memory expected = bytes.concat(
            hex"00",
            abi.encode(k.alpha[0], Q - k.alpha[1], k.beta),
            abi.encode(k.gamma[0], k.gamma[1], Q - k.gamma[2], Q - k.gamma[3]),
            abi.encode(k.delta[0], k.delta[1], Q - k.delta[2], Q - k.delta[3]),
            abi.encode(k.ic[0], k.ic[1], k.ic[2], k.ic[3])
        );
        vm.assertEq(keccak256(caller.key().code), keccak256(expected));
    }

    function test_store_refuses_a_wrong_number_of_inputs() public {
        for (uint256 count = 0; count < 7; ++count) {
            if (count == 4) continue;
            IRollup.VerifyingKey memory key = Groth16Vectors.trapdoorKey();
            uint256[2][] memory ic = new uint256[2][](count);
            for (uint256 i = 0; i < count; ++i) {
                ic[i] = key.ic[0];
            }
            key.ic = ic;
            vm.expectRevert(abi.encodeWithSelector(IRollup.KeyInputs.selector, 9, 4, count));
            caller.store(9, key);
        }
    }

    /// @dev With δ = ±γ, or δ = ± the generator of a setup whose second phase never happened, anyone can prove anything.
    function test_store_refuses_keys_without_a_second_phase() public {
        uint256[4] memory generator = [
            11559732032986387107991004021392285783925812861821192530917403151452391805634,
            10857046999023057135944570762232829481370756359578518086990519993285655852781,
            4082367875863433681332203403145435568316851327593401208105741076214120093531,
            8495653923123431417604973247489272438418190587263600148770280649306958101930
        ];
        for (uint256 i = 0; i < 4; ++i) {
            IRollup.VerifyingKey memory key = Groth16Vectors.trapdoorKey();
            key.delta = i < 2 ? key.gamma : generator;
            if (i % 2 == 1) key.delta = [key.delta[0], key.delta[1], Q - key.delta[2], Q - key.delta[3]];
            vm.expectRevert(abi.encodeWithSelector(IRollup.KeyInsecure.selector, 9));
            caller.store(9, key);
        }
    }

    function test_store_accepts_gamma_as_the_generator() public {
        // snarkjs' keys have it.
        caller.store(9, Groth16Vectors.snarkjsKey());
    }

    function test_store_refuses_bad_points() public {
        // 0: a coordinate of q or more, 1: off the curve, 2: infinity
        for (uint256 fault = 0; fault < 3; ++fault) {
            for (uint256 i = 0; i < 8; ++i) {
                IRollup.VerifyingKey memory key = Groth16Vectors.trapdoorKey();
                if (i == 0) _spoil(key.alpha, fault);
                else if (i == 1) _spoil(key.beta, fault);
                else if (i == 2) _spoil(key.gamma, fault);
                else if (i == 3) _spoil(key.delta, fault);
                else _spoil(key.ic[i - 4], fault);
                vm.expectRevert(abi.encodeWithSelector(IRollup.KeyPoint.selector, 9));
                caller.store{gas: 3_000_000}(9, key);
            }
        }
        IRollup.VerifyingKey memory stray = Groth16Vectors.trapdoorKey();
        stray.delta = [0, 1, STRAY_Y1, STRAY_Y0];
        vm.expectRevert(abi.encodeWithSelector(IRollup.KeyPoint.selector, 9));
        caller.store{gas: 3_000_000}(9, stray);
    }

    function _spoil(uint256[2] memory point, uint256 fault) private pure {
        if (fault == 0) point[1] += Q;
        if (fault == 1) point[0] = addmod(point[0], 1, Q);
        if (fault == 2) (point[0], point[1]) = (0, 0);
    }

    function _spoil(uint256[4] memory point, uint256 fault) private pure {
        if (fault == 0) point[3] += Q;
        if (fault == 1) point[2] = addmod(point[2], 1, Q);
        if (fault == 2) (point[0], point[1], point[2], point[3]) = (0, 0, 0, 0);
    }
}
