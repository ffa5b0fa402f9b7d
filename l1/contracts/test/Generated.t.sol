// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Test} from "./utils/Test.sol";
import {Reference} from "./utils/Reference.sol";
import {Groth16Caller} from "./Groth16.t.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";
import {Batch1Verifier} from "./vectors/Batch1Verifier.sol";
import {DevelopmentKeys} from "./vectors/DevelopmentKeys.sol";

/// @title The Solidity that is generated from the prover's keys, on a proof of a real batch
contract GeneratedTest is Test {
    uint256 private constant R = Reference.R;

    Batch1Verifier private verifier;
    uint256[8] private proof;
    uint256[3] private inputs;

    function setUp() public {
        verifier = new Batch1Verifier();
        string memory json = vm.readFile("test/vectors/Batch1Proof.json");
        uint256[] memory words = vm.parseJsonUintArray(json, ".proof");
        for (uint256 i = 0; i < 8; ++i) {
            proof[i] = words[i];
        }
        words = vm.parseJsonUintArray(json, ".inputs");
        for (uint256 i = 0; i < 3; ++i) {
            inputs[i] = words[i];
        }
    }

    function test_the_pinned_proof_is_accepted() public view {
        verifier.verify(proof, inputs);
    }

    function testFuzz_another_input_is_refused(uint256 position, uint256 difference) public {
        position = position % 3;
        inputs[position] = addmod(inputs[position], 1 + difference % (R - 1), R);
        vm.expectRevert(abi.encodeWithSelector(Batch1Verifier.InvalidProof.selector));
        verifier.verify(proof, inputs);
    }

    function testFuzz_a_second_name_of_an_input_is_refused(uint256 position) public {
        position = position % 3;
        uint256 alias_ = inputs[position] + R;
        inputs[position] = alias_;
        vm.expectRevert(abi.encodeWithSelector(Batch1Verifier.InputNotCanonical.selector, position, alias_));
        verifier.verify(proof, inputs);
    }

    /// @dev The same proof and key through the rollup's own verifier, which takes α and negates it itself.
    function test_the_rollup_accepts_it_under_the_key_of_the_library() public {
        Groth16Caller caller = new Groth16Caller();
        caller.store(1, DevelopmentKeys.batch1());
        (uint256[] memory words, IRollup.Proof[] memory proofs) = _forRollup();
        caller.verify(words, proofs, 0);

        caller.store(2, DevelopmentKeys.batch2());
        vm.expectRevert(abi.encodeWithSelector(IRollup.ProofIsFalse.selector));
        caller.verify(words, proofs, 0);
    }

    function _forRollup() private view returns (uint256[] memory words, IRollup.Proof[] memory proofs) {
        words = new uint256[](3);
        for (uint256 i = 0; i < 3; ++i) {
            words[i] = inputs[i];
        }
        proofs = new IRollup.Proof[](1);
        proofs[0].a = [proof[0], proof[1]];
        proofs[0].b = [proof[2], proof[3], proof[4], proof[5]];
        proofs[0].c = [proof[6], proof[7]];
    }
}
