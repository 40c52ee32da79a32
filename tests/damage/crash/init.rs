//! A repository is created completely or not at all.

use std::sync::Arc;

use object_store::memory::InMemory;
use sidekeep::base::env::{Seeded, SharedEnv};
use sidekeep::base::role::Role;
use sidekeep::crypto::keyfile::{KeyFile, Protection};
use sidekeep::ops::error::OpError;
use sidekeep::ops::init::Init;
use sidekeep::repo::error::RepoError;
use sidekeep::repo::objects::Objects;
use sidekeep::repo::open::Repository;
use sidekeep::store::Store;

use crate::support::stores::faulty::{Effect, Faulty, Plan};
use crate::support::world::open_key;

fn objects(store: Arc<dyn object_store::ObjectStore>, runtime: &tokio::runtime::Runtime) -> Objects {
    Objects::new(Store::from_object_store(store), runtime.handle().clone())
}

#[test]
fn a_crashed_init_leaves_a_complete_repository_or_none() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let env: SharedEnv = Arc::new(Seeded::new(3));
    let init = |store: Arc<dyn object_store::ObjectStore>| {
        Init::create(objects(store, &runtime), env.clone(), "test").map(|init| init.fingerprint())
    };
    let healthy = Faulty::new(Arc::new(InMemory::new()), Plan::never());
    init(healthy.clone()).expect("a repository");
    let (mut none, mut whole, mut remains) = (0, 0, 0);
    for call in 1..=healthy.calls() {
        for effect in [Effect::NotApplied, Effect::Applied] {
            let memory = Arc::new(InMemory::new());
            let faulty = Faulty::new(memory.clone(), Plan::crash(call, effect));
            init(faulty).expect_err("dies");
            match Repository::open(objects(memory.clone(), &runtime), env.clone()) {
                Ok(repository) => {
                    whole += 1;
                    assert_eq!(repository.roster().keys.len(), 5);
                    assert!(repository.roster().open_epoch().is_some() && repository.roster().voids.is_empty());
                    let again = init(memory).expect_err("a repository exists");
                    assert!(matches!(again, OpError::Repo(RepoError::Exists { .. })), "{again:?}");
                }
                Err(RepoError::NoRepository { .. }) => {
                    none += 1;
                    match init(memory.clone()) {
                        Ok(fingerprint) => {
                            let made = Repository::open(objects(memory, &runtime), env.clone()).expect("opens");
                            assert_eq!(made.roster().fingerprint(), fingerprint);
                        }
                        // The crashed init's roster may belong to one that is still running, so it is left in place.
                        Err(error) => {
                            remains += 1;
                            assert!(matches!(error, OpError::Repo(RepoError::Unfinished { .. })), "{error:?}");
                        }
                    }
                }
                Err(error) => panic!("call {call}, {effect:?}: {error:?}"),
            }
        }
    }
    assert_eq!((whole, none > 10), (1, true), "only the descriptor's call creates the repository");
    assert_eq!(remains, 2, "its roster was stored, its descriptor was not");
}

#[test]
fn exactly_one_of_two_concurrent_inits_succeeds() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for seed in 0..8 {
        let memory = Arc::new(InMemory::new());
        let race = |seed: u64| {
            let (objects, env) = (objects(memory.clone(), &runtime), Arc::new(Seeded::new(seed)));
            move || Init::create(objects, env, "test").map(|init| init.fingerprint())
        };
        let (one, two) = (race(2 * seed), race(2 * seed + 1));
        let (one, two) = std::thread::scope(|scope| {
            let (one, two) = (scope.spawn(one), scope.spawn(two));
            (one.join().expect("no panic"), two.join().expect("no panic"))
        });
        let repository = Repository::open(objects(memory.clone(), &runtime), Arc::new(Seeded::new(99))).expect("opens");
        let winners: Vec<_> = [&one, &two].into_iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(winners, [&repository.roster().fingerprint()], "{one:?} {two:?}");
        for loser in [one, two].into_iter().filter_map(Result::err) {
            assert!(
                matches!(loser, OpError::Repo(RepoError::Exists { .. } | RepoError::Unfinished { .. })),
                "{loser:?}"
            );
        }
    }
}

#[test]
fn a_proof_needs_an_operator_and_a_key_that_restores() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let env: SharedEnv = Arc::new(Seeded::new(3));
    let proven = |roles: &[Role]| {
        let init = Init::create(objects(Arc::new(InMemory::new()), &runtime), env.clone(), "test").expect("made");
        let fingerprint = init.fingerprint();
        let kept = init.identities().iter().filter(|identity| roles.contains(&identity.role()));
        let kept = kept.map(|identity| {
            open_key(&KeyFile::write(&*env, identity, "test", fingerprint, Protection::None).expect("writes"))
        });
        let kept = kept.collect();
        init.prove(kept, None).is_ok()
    };
    assert!(proven(&[Role::Operator, Role::Admin]) && proven(&[Role::Operator, Role::Recovery]));
    assert!(!proven(&[Role::Operator, Role::Auditor]) && !proven(&[Role::Admin]));
}
