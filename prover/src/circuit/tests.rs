//! Names are stable, and values computed without constraints satisfy the constraints computed without values.

use super::*;
use crate::bench::sample_statement;

#[test]
fn names_read_back() {
    for circuit in [
        Circuit::Batch(Shape::TINY),
        Circuit::Batch(Shape::LARGE),
        Circuit::Chain(0),
        Circuit::Chain(MAX_LINKS),
    ] {
        assert_eq!(circuit.to_string().parse(), Ok(circuit));
    }
    assert_eq!(Circuit::Batch(Shape::TINY).to_string(), "batch-1");
    for text in [
        "",
        "batch",
        "batch-",
        "batch-0",
        "batch-65536",
        "chain-x",
        "chain-67108865",
        "other-1",
    ] {
        assert_eq!(text.parse::<Circuit>(), Err(UnknownCircuit(text.into())));
    }
}

#[test]
fn a_chain_satisfies_its_matrices() {
    for links in [0, 1, 2, 100] {
        let matrices = Circuit::Chain(links).matrices().unwrap();
        let statement = Statement::Chain(Chain::new(links, 7));
        let assignment = statement.assign().unwrap();
        assert_eq!(assignment.values().len(), matrices.variables());
        assert_eq!(assignment.public_inputs(), statement.public_inputs());
        assert_eq!(matrices.constraints(), links as usize + 3);
        assert_eq!(matrices.first_unsatisfied(assignment.values()), None);
    }
}

#[test]
fn a_full_batch_satisfies_the_matrices_of_its_shape() {
    let circuit = Circuit::Batch(Shape::TINY);
    let matrices = circuit.matrices().unwrap();
    let statement = sample_statement(circuit).unwrap();
    let assignment = statement.assign().unwrap();
    assert_eq!(assignment.inputs(), 4);
    assert_eq!(assignment.values().len(), matrices.variables());
    assert_eq!(matrices.first_unsatisfied(assignment.values()), None);
    let mut broken = assignment.values().to_vec();
    let last = broken.len() - 1;
    broken[last] += Fr::from(1u64);
    assert!(matrices.first_unsatisfied(&broken).is_some());
}

#[test]
fn statements_read_back_from_bytes_and_json() {
    let batch = sample_statement(Circuit::Batch(Shape::TINY)).unwrap();
    for statement in [batch, Statement::Chain(Chain::new(3, 4))] {
        let bytes = postcard::to_allocvec(&statement).unwrap();
        assert_eq!(
            postcard::from_bytes::<Statement>(&bytes).unwrap(),
            statement
        );
        let json = serde_json::to_string(&statement).unwrap();
        assert_eq!(serde_json::from_str::<Statement>(&json).unwrap(), statement);
    }
}

#[test]
fn the_pinned_identity_is_that_of_the_matrices() {
    let tiny = Circuit::Batch(Shape::TINY);
    assert!(tiny.pinned().is_some());
    assert_eq!(
        tiny.identity().unwrap(),
        tiny.matrices().unwrap().identity()
    );
    assert!(Circuit::Chain(3).pinned().is_none());
    let longer = Shape {
        transaction_rows: Shape::TINY.transaction_rows + 1,
        ..Shape::TINY
    };
    assert!(Circuit::Batch(longer).pinned().is_none());
}
