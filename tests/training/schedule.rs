//! Is the learning rate right at the corners?

use factorexe::train::{Schedule, ScheduleKind, TrainConfig};

fn schedule(kind: ScheduleKind) -> Schedule {
    Schedule { kind, warmup_steps: 10, final_lr_fraction: 0.1, decay_fraction: 0.2 }
}

fn assert_course(kind: ScheduleKind, corners: &[(u64, f64)]) {
    for (step, expected) in corners {
        let found = schedule(kind).fraction(*step, 110);
        assert!((found - expected).abs() < 1e-12, "{kind:?} at {step}: {found}, not {expected}");
    }
}

#[test]
fn every_course_is_right_at_its_corners() {
    // 110 steps, 10 of warm-up: the rest falls over 100, the last 22 decay in wsd.
    assert_course(ScheduleKind::Constant, &[(0, 0.1), (9, 1.0), (10, 1.0), (109, 1.0)]);
    assert_course(
        ScheduleKind::WarmupLinear,
        &[(0, 0.1), (4, 0.5), (10, 1.0), (60, 0.55), (109, 0.109), (110, 0.1), (500, 0.1)],
    );
    assert_course(ScheduleKind::WarmupCosine, &[(9, 1.0), (10, 1.0), (60, 0.55), (110, 0.1)]);
    assert_course(ScheduleKind::Wsd, &[(9, 1.0), (87, 1.0), (88, 1.0), (99, 0.55), (110, 0.1)]);
}

#[test]
fn a_warmup_longer_than_the_run_takes_half_of_it() {
    let schedule = schedule(ScheduleKind::WarmupLinear);
    assert!((schedule.fraction(0, 4) - 0.5).abs() < 1e-12);
    assert!((schedule.fraction(1, 4) - 1.0).abs() < 1e-12);
    assert!((schedule.fraction(0, 1) - 1.0).abs() < 1e-12);
}

#[test]
fn a_recipe_gives_what_it_changes_and_no_unknown_key() {
    let text = r#"
        steps = 7
        schedule = { kind = "wsd", final_lr_fraction = 0.0 }
        [[optimizer.groups]]
        pattern = "*.lora.*"
        lr_scale = 4.0
    "#;
    let config: TrainConfig = toml::from_str(text).unwrap();
    assert_eq!((config.steps, config.schedule.kind), (7, ScheduleKind::Wsd));
    assert!((config.optimizer.lr - TrainConfig::default().optimizer.lr).abs() < f64::EPSILON);
    assert_eq!(config.optimizer.groups[0].weight_decay, None);
    let error = toml::from_str::<TrainConfig>("stepz = 7").unwrap_err().to_string();
    assert!(error.contains("stepz"), "{error}");
    let schema = schemars::schema_for!(TrainConfig).to_value().to_string();
    assert!(schema.contains("Optimizer steps in the whole run."), "the schema explains its keys");
}

#[test]
fn a_refused_value_is_named_by_its_key() {
    let refused = |text: &str| {
        toml::from_str::<TrainConfig>(text).unwrap().validate().unwrap_err().to_string()
    };
    for (text, key) in [
        ("steps = 0", "train.steps"),
        ("accumulate = 0", "train.accumulate"),
        ("ema = 1.0", "train.ema"),
        ("schedule.final_lr_fraction = 2.0", "train.schedule.final_lr_fraction"),
    ] {
        let error = refused(text);
        assert!(error.contains(key), "{error}");
    }
}
