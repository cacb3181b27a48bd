/* Welch's test: do two means differ, when spreads and counts do too? Source: Welch 1947; incomplete beta function by Lentz's method. */
#ifndef RV_LEARN_WELCH_H
#define RV_LEARN_WELCH_H

/** rv_welch - one-sided p that a's mean exceeds b's by more than margin, from means, sample variances and counts; 1 with fewer than two of
 * either. */
double rv_welch(double mean_a, double var_a, double n_a, double mean_b, double var_b, double n_b,
                double margin);
#endif
